"""Goals of Gymnasium-Robotics: our rewards against the environments' own, and hindsight on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import envs, replay
from jaxrl.types import Observation

NAMES = ("FetchReach-v4", "FetchPushDense-v4", "HandReach-v3", "PointMaze_UMaze-v3", "PointMaze_UMazeDense-v3")


@pytest.mark.parametrize("name", NAMES)
def test_rewards_are_the_environment_s_own(name):
    """On goals whose distances lie around the threshold, which differs between the families."""
    env, params = jaxrl.make(f"gymnasium/{name}")
    size = jaxrl.spec(env, params).observation.goal.shape[0]
    rng = np.random.default_rng(0)
    goal = rng.normal(size=(400, size)).astype(np.float32)
    direction = rng.normal(size=goal.shape)
    distance = np.exp(rng.uniform(np.log(1e-3), np.log(2.0), (400, 1)))
    achieved = (goal + distance * direction / np.linalg.norm(direction, axis=-1, keepdims=True)).astype(np.float32)
    original = env._make_vector([0])._envs[0].unwrapped
    expected = original.compute_reward(achieved.astype(np.float64), goal.astype(np.float64), {})
    np.testing.assert_allclose(env.reward_fn(jnp.asarray(achieved), jnp.asarray(goal)), expected, rtol=1e-5)
    assert len(np.unique(expected)) > 1
    reached = np.asarray(env.success_fn(achieved, goal))
    if hasattr(original, "_is_success"):
        np.testing.assert_array_equal(reached, original._is_success(achieved, goal))
    assert 0 < reached.mean() < 1 and ("Dense" in name or (expected[reached] > expected[~reached].max()).all())
    original.close()


def test_rewards_that_are_not_known_are_left_out():
    env, _ = jaxrl.make("gymnasium/HandManipulateBlock-v1")
    assert not hasattr(env, "reward_fn") and envs.success_of(env) is None


def test_hindsight_relabels_fetch():
    env, params = jaxrl.make("gymnasium/FetchReach-v4", max_steps_in_episode=10)
    spec = jaxrl.spec(env, params)
    assert isinstance(spec.observation, Observation) and spec.observation.features.shape == (10,)
    agent = jaxrl.td3(spec, replay=replay.hindsight(env.reward_fn), replay_capacity=200, learning_starts=400)
    train = lambda key: jaxrl.train(key, agent, env, params, num_steps=40, num_envs=2, rollout_length=10)[0]  # noqa: E731
    state = jax.jit(train)(jax.random.key(0)).agent
    made = replay.hindsight(env.reward_fn)(200, n_step=1, gamma=0.9)
    sample = jax.jit(lambda key: made.sample(key, state.per_env, 256))(jax.random.key(1)).transition
    reached = np.linalg.norm(sample.next_observation.achieved_goal - sample.observation.goal, axis=-1) <= 0.05
    np.testing.assert_array_equal(sample.reward, reached - 1.0)
    assert 0.2 < reached.mean() < 1.0 and not sample.terminated.any()


@pytest.mark.parametrize("name", ["gymnasium/FetchReach-v4", "envpool/FetchReach-v4"])
def test_goals_of_each_suite_are_judged_as_the_environment_does(name):
    pytest.importorskip(name.partition("/")[0])
    env, params = jaxrl.make(name, max_steps_in_episode=6)
    reset, step = jax.vmap(env.reset), jax.vmap(env.step)
    seen, state = reset(jax.random.split(jax.random.key(0), 8))
    results = []
    for _ in range(6):
        towards = 10 * jnp.clip(seen.goal - seen.achieved_goal, -0.1, 0.1)
        action = jnp.concatenate([towards, jnp.zeros((8, 1))], axis=1)
        seen, state, reward, terminated, truncated, info = step(jax.random.split(jax.random.key(1), 8), state, action)
        final = info["final_observation"]
        success = env.success_fn(final.achieved_goal, final.goal)
        np.testing.assert_array_equal(success, info["success"])
        np.testing.assert_allclose(reward, env.reward_fn(final.achieved_goal, final.goal))
        results.append(success)
    assert truncated.all() and not terminated.any() and 0 < np.mean(results) < 1
    env.close()


def test_goals_pass_the_check():
    env, params = jaxrl.make("gymnasium/PointMaze_UMaze-v3", max_steps_in_episode=8)
    assert envs.check(env, params, num_envs=8, num_steps=32).episodes > 8
