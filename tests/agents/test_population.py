"""A vmapped population trains within a time limit: QR factorisations under vmap once slept for ever here."""

import os
import subprocess
import sys

# Eight square layers for each of eight seeds: with QR this slept within 50 of the initialisations, run after run.
PROGRAM = """
import jax
from jaxrl.agents import ppo
from jaxrl.envs import make, spec
from jaxrl.networks import MLP
from jaxrl.training import train

env, params = make("CartPole-v1")
agent = ppo(spec(env, params), torso=MLP(hidden=(64, 64, 64, 64)), learning_rate=1e-3)

init = jax.jit(jax.vmap(agent.init))
for seed in range(100):
    jax.block_until_ready(init(jax.random.split(jax.random.key(seed), 8)))

@jax.jit
@jax.vmap
def run(key):
    _, metrics = train(key, agent, env, params, num_steps=4 * 128 * 8, num_envs=4, rollout_length=128)
    return metrics["episode_return"]

returns = run(jax.random.split(jax.random.key(0), 8))
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
