"""A vmapped population trains within a time limit: QR factorisations under vmap once slept for ever here."""

import os
import subprocess
import sys

PROGRAM = """
import jax
from jaxrl.agents import ppo
from jaxrl.envs import make, spec
from jaxrl.training.evaluate import evaluate
from jaxrl.training.loop import train

env, params = make("CartPole-v1")
agent = ppo(spec(env, params), learning_rate=1e-3)

@jax.jit
@jax.vmap
def run(key):
    state, metrics = train(key, agent, env, params, num_steps=4 * 128 * 8, num_envs=4, rollout_length=128)
    return state.agent.params, metrics["episode_return"]

for seed in range(3):  # the deadlock was one of several calls
    agents, returns = jax.block_until_ready(run(jax.random.split(jax.random.key(seed), 8)))
assert returns.shape == (8, 8), returns.shape
assert (returns[:, -1] > returns[:, 0]).mean() > 0.8, returns
print("trained")
"""


def test_eight_seeds_do_not_deadlock():
    # The compiler's own settings, not the fast ones of the test session.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=240, env=environment, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip().endswith("trained")
