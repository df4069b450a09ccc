"""Exact resume under the compiler's own settings, which users run, not the fast ones of the test session."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import sys

import jax
import numpy as np
import jaxrl
from jaxrl.training import Checkpoints, Program, fit

recipe, folder = sys.argv[1:]
options = {
    "ppo": dict(normalize_observation=True, normalize_reward=True, num_minibatches=2),
    "rainbow": dict(replay_capacity=128, learning_starts=32, batch_size=16, num_gradient_steps=2),
}[recipe]
env, params = jaxrl.make("CartPole-v1")
agent = getattr(jaxrl, recipe)(jaxrl.spec(env, params), **options)
keys = jax.random.split(jax.random.key(0), 3)


def program():
    return Program(lambda: agent, env, params, keys, num_envs=4, rollout_length=8)


whole, _ = fit(program(), num_updates=12, updates_per_chunk=5)
part, _ = fit(program(), num_updates=7, updates_per_chunk=5)
checkpoints = Checkpoints(folder)
checkpoints.save(7, part)
again = program()
resumed, _ = fit(again, num_updates=12, updates_per_chunk=5, state=checkpoints.restore(again.abstract_state()))
for (path, a), (_, b) in zip(*map(jax.tree_util.tree_leaves_with_path, (whole, resumed)), strict=True):
    np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))
print("equal")
"""


@pytest.mark.parametrize("recipe", ["ppo", "rainbow"])
def test_resume_is_exact(recipe, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-c", PROGRAM, recipe, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().endswith("equal")
