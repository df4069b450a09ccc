"""Runs of more than 2^31 environment steps: counters stay at the largest number, and what follows from them too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import envs
from jaxrl.rollout import reset, rollout

LAST = 2**31 - 1
ROWS = [
    ("q_learning", "FrozenLake-misc", {}),
    ("sarsa", "FrozenLake-misc", {}),
    ("expected_sarsa", "FrozenLake-misc", {}),
    ("dqn", "CartPole-v1", {"replay_capacity": 64, "batch_size": 4, "learning_starts": 8}),
    ("pqn", "CartPole-v1", {"num_minibatches": 1, "num_epochs": 1}),
]


@pytest.mark.parametrize(("name", "environment", "options"), ROWS, ids=[row[0] for row in ROWS])
def test_steps_are_counted_up_to_the_end_and_learning_goes_on(name, environment, options):
    env, params = envs.make(environment)
    agent = getattr(jaxrl, name)(envs.spec(env, params), **options)
    key = jax.random.key(0)
    observation, env_state = reset(key, env, params, 2)

    @jax.jit
    def update(state):
        _, _, trajectory = rollout(key, agent, state, env, params, env_state, observation, 4)
        return agent.update(key, state, trajectory)

    state = agent.init(key, 2)._replace(steps=jnp.int32(LAST - 3))
    for _ in range(3):
        state, metrics = update(state)
        assert int(state.steps) == LAST
    before = state
    state, metrics = update(state)
    if "epsilon" in metrics:  # and not back at its start, where a counter that has wrapped would be
        assert float(metrics["epsilon"]) < 0.2
    changed = jax.tree.map(lambda x, y: not np.array_equal(x, y), before.params, state.params)
    assert name in ("q_learning", "sarsa", "expected_sarsa") or any(jax.tree.leaves(changed))
