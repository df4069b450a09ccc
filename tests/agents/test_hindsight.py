"""Hindsight with continuous actions: the same agent reaches points with it, and stays where it is without."""

import jax
import pytest

from jaxrl import networks, replay
from jaxrl.agents import sac, td3
from jaxrl.envs import spec
from jaxrl.envs.goals import PointReach
from jaxrl.training import evaluate, train

ENV = PointReach()


def mean_return(recipe, made, num_steps):
    """Of greedy episodes of 50 steps after training: each step away from the goal costs 1."""
    params = ENV.default_params
    agent = recipe(
        spec(ENV, params),
        replay=made,
        torso=networks.MLP((64, 64), "relu"),
        gamma=0.95,
        batch_size=128,
        num_gradient_steps=8,
        learning_starts=500,
        tau=0.02,
    )

    @jax.jit
    def run(key):
        state, _ = train(key, agent, ENV, params, num_steps=num_steps, num_envs=16, rollout_length=1)
        return evaluate(jax.random.fold_in(key, 1), agent, state.agent, ENV, params, num_episodes=64).returns.mean()

    return float(run(jax.random.key(1)))


@pytest.mark.parametrize("recipe", [td3, sac], ids=lambda recipe: recipe.__name__)
def test_points_are_reached_with_hindsight_and_not_without(recipe):
    assert mean_return(recipe, replay.hindsight(ENV.reward_fn), 8_000) > -20
    assert mean_return(recipe, replay.uniform, 8_000) < -40
