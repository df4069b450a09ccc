"""Exact resume under the compiler's own settings, which users run, not the fast ones of the test session."""

import os
import subprocess
import sys

PROGRAM = """
import sys

import jax
import numpy as np
import jaxrl
from jaxrl.training import Checkpoints, Program, fit

recipes = {
    "ppo": dict(normalize_observation=True, normalize_reward=True, num_minibatches=2),
    "rainbow": dict(replay_capacity=128, learning_starts=32, batch_size=16, num_gradient_steps=2),
}
env, params = jaxrl.make("CartPole-v1")
keys = jax.random.split(jax.random.key(0), 3)
for recipe, options in recipes.items():
    agent = getattr(jaxrl, recipe)(jaxrl.spec(env, params), **options)

    def program():
        return Program(lambda: agent, env, params, keys, num_envs=4, rollout_length=8)

    begun = program()
    whole, _ = fit(begun, num_updates=12, updates_per_chunk=5)
    part, _ = fit(begun, num_updates=7, updates_per_chunk=5)
    checkpoints = Checkpoints(f"{sys.argv[1]}/{recipe}")
    checkpoints.save(7, part)
    again = program()
    resumed, _ = fit(again, num_updates=12, updates_per_chunk=5, state=checkpoints.restore(again.abstract_state()))
    for (path, a), (_, b) in zip(*map(jax.tree_util.tree_leaves_with_path, (whole, resumed)), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=recipe + jax.tree_util.keystr(path))
    print(recipe, "equal")
"""


def test_resume_is_exact(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split("\n")[-3:-1] == ["ppo equal", "rainbow equal"]
