"""Clipped rewards: the agent's are clipped, the reported returns are the environment's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import feedback, replay
from jaxrl.types import RewardModel

SPEC = jaxrl.spec(*jaxrl.make("CartPole-v1"))


def test_rewards_are_clipped_and_the_bounds_may_be_tracers():
    steps = jaxrl.Transition(*[jnp.zeros((4, 1))] * 7)._replace(reward=jnp.array([[-7.0], [0.25], [-0.5], [9.0]]))
    model = feedback.clipped(SPEC)
    assert isinstance(model, RewardModel)
    np.testing.assert_array_equal(model.reward(None, (), steps)[:, 0], [-1.0, 0.25, -0.5, 1.0])
    high = jax.jit(jax.vmap(lambda high: feedback.clipped(SPEC, high=high).reward(None, (), steps).max()))
    np.testing.assert_array_equal(high(jnp.array([0.5, 2.0])), [0.5, 2.0])


def test_an_empty_interval_is_refused():
    with pytest.raises(ValueError, match="low: got 2.0, must be at most high=1.0"):
        feedback.clipped(SPEC, low=2.0)
    with pytest.raises(TypeError, match="high: got '1'"):
        feedback.clipped(SPEC, high="1")


@pytest.mark.parametrize("stores", [False, True], ids=["with_reward", "reward_model="])
def test_agents_learn_from_it_and_returns_are_reported_as_they_are(stores):
    """CartPole pays 1 a step; clipped to 0.25 the values of a policy are a quarter, and returns stay whole."""
    env, params = jaxrl.make("CartPole-v1", max_steps_in_episode=8)
    spec = jaxrl.spec(env, params)
    model = feedback.clipped(spec, high=0.25)
    options = {"replay_capacity": 128, "learning_starts": 16, "batch_size": 8}
    agent = jaxrl.dqn(spec, reward_model=model, **options) if stores else jaxrl.dqn(spec, **options)
    agent = agent if stores else jaxrl.with_reward(agent, model)
    train = lambda key: jaxrl.train(key, agent, env, params, num_steps=64, num_envs=2, rollout_length=16)  # noqa: E731
    state, metrics = jax.jit(train)(jax.random.key(0))
    np.testing.assert_array_equal(metrics["episode_return"][-1], 8.0)
    buffer = replay.uniform(128, n_step=1, gamma=0.9)
    stored = state.agent.per_env if stores else state.agent.per_env[0]
    sample = buffer.sample(jax.random.key(1), stored, 32)
    np.testing.assert_array_equal(sample.transition.reward, 1.0 if stores else 0.25)
    assert stores or metrics["learned_reward"][-1] == 0.25
