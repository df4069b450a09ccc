"""Bit flipping and point reaching: what they pay, where they end, and what they are called."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import envs
from jaxrl.envs.goals import BitFlipping, PointReach
from jaxrl.networks.inputs import network_input
from jaxrl.types import Discrete, Observation


def run(env, params, policy, num_episodes, num_steps, seed=0):
    """Plays ``policy(key, observation)``; leaves ``[B, T, ...]`` of what each step saw and returned."""

    @jax.jit
    @jax.vmap
    def play(key):
        def body(carry, key):
            observation, state = carry
            action = policy(key, observation)
            after, state, reward, terminated, truncated, info = env.step(key, state, action, params)
            return (after, state), (observation, action, reward, terminated, truncated, info)

        return jax.lax.scan(body, env.reset(key, params), jax.random.split(key, num_steps))[1]

    return jax.tree.map(np.asarray, play(jax.random.split(jax.random.key(seed), num_episodes)))


def first_wrong_bit(key, observation):
    return jnp.argmax(observation.features != observation.goal)


@pytest.mark.parametrize("num_bits", [1, 2, 8, 300])
def test_bit_flipping_keeps_the_protocol_at_any_size(num_bits):
    env, params = envs.make("BitFlipping", num_bits=num_bits)
    report = envs.check(env, params, num_steps=max(32, num_bits + 1), num_envs=16)
    assert report.truncated > 0 and report.weak_types == ()
    assert (report.terminated > 0) == (num_bits < 300)
    assert envs.spec(env, params).action == Discrete(num_bits)


def test_bit_flipping_is_the_paper_s():
    """Against plain Python: one bit flips, -1 unless all are right, the end at success or after n steps."""
    env, params = envs.make("BitFlipping-3")
    random = lambda key, observation: jax.random.randint(key, (), 0, 3)  # noqa: E731
    seen, action, reward, terminated, truncated, info = run(env, params, random, 8, 60)
    ends = 0
    for b in range(8):
        steps = 0
        for t in range(60):
            expected = seen.features[b, t].copy()
            expected[action[b, t]] = 1 - expected[action[b, t]]
            final = info["final_observation"]
            steps += 1
            success = (expected == seen.goal[b, t]).all()
            np.testing.assert_array_equal(final.features[b, t], expected)
            np.testing.assert_array_equal(final.achieved_goal[b, t], expected)
            np.testing.assert_array_equal(final.goal[b, t], seen.goal[b, t])
            np.testing.assert_array_equal(seen.achieved_goal[b, t], seen.features[b, t])
            assert reward[b, t] == (0.0 if success else -1.0)
            assert terminated[b, t] == info["success"][b, t] == success
            assert truncated[b, t] == (steps == 3)
            ended = success or steps == 3
            if not ended and t < 59:
                np.testing.assert_array_equal(seen.features[b, t + 1], expected)
                np.testing.assert_array_equal(seen.goal[b, t + 1], seen.goal[b, t])
            steps, ends = 0 if ended else steps, ends + bool(success)
    assert ends > 20


def test_bit_flipping_starts_and_goals_are_uniform_and_independent():
    env, params = envs.make("BitFlipping", num_bits=2)
    seen, _ = jax.vmap(lambda key: env.reset(key, params))(jax.random.split(jax.random.key(0), 4000))
    code = np.asarray(seen.features @ np.array([1, 2]) + seen.goal @ np.array([4, 8]))
    # 250 expected in each of 16 cells, standard deviation 15.3.
    np.testing.assert_allclose(np.bincount(code, minlength=16), 250, atol=70)


def test_bit_flipping_the_best_return_is_one_minus_the_distance():
    env, params = envs.make("BitFlipping-40")
    seen, _, reward, terminated, _, _ = run(env, params, first_wrong_bit, 32, 40)
    distance = (seen.features[:, 0] != seen.goal[:, 0]).sum(-1)
    assert terminated.any(1).all()
    np.testing.assert_array_equal(terminated.argmax(1) + 1, distance)
    returns = [row[: int(d)].sum() for row, d in zip(reward, distance, strict=True)]
    np.testing.assert_array_equal(returns, 1.0 - distance)


def test_point_reach_keeps_the_protocol():
    env, params = envs.make("PointReach", max_steps_in_episode=20)
    report = envs.check(env, params)
    assert (report.terminated, report.truncated) == (0, report.episodes)
    assert report.weak_types == ()


def test_point_reach_is_hard_by_chance_and_can_always_be_solved():
    env, params = envs.make("PointReach")

    def steer(key, observation):
        position, velocity = observation.features[:2], observation.features[2:]
        return (0.35 * (observation.goal - position) - 0.8 * velocity) / params.push

    reward = run(env, params, steer, 500, 50)[2]
    assert (reward[:, -1] == 0.0).all() and reward.sum(1).min() >= -25.0
    random = lambda key, observation: jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)  # noqa: E731
    reward = run(env, params, random, 500, 50)[2]
    assert 0 < (reward == 0.0).any(1).mean() < 0.1


def test_point_reach_moves_as_its_docstring_says():
    env, params = envs.make("PointReach", push=0.4)
    outward = lambda key, observation: jnp.array([1.0, -3.0])  # noqa: E731
    seen, _, reward, _, truncated, info = run(env, params, outward, 4, 50)
    position, velocity = seen.features[..., :2], seen.features[..., 2:]
    after = info["final_observation"].features
    moved = 0.8 * velocity + np.array([0.4, -0.4])
    np.testing.assert_allclose(after[..., :2], np.clip(position + moved, -1.0, 1.0), atol=1e-6)
    hit = np.abs(position + moved) > 1.0
    assert hit.any() and (~hit).any()
    np.testing.assert_allclose(after[..., 2:], np.where(hit, 0.0, moved), atol=1e-6)
    np.testing.assert_array_equal(after[..., :2], info["final_observation"].achieved_goal)
    distance = np.linalg.norm(after[..., :2] - seen.goal, axis=-1)
    np.testing.assert_array_equal(reward, np.where(distance <= 0.05, 0.0, -1.0))
    np.testing.assert_array_equal(truncated, np.broadcast_to(np.arange(50) == 49, (4, 50)))


@pytest.mark.parametrize("env", [BitFlipping(5), PointReach(0.4)], ids=lambda env: env.name)
def test_reward_and_termination_of_any_goal_are_those_that_are_paid(env):
    params = env.default_params
    space = env.action_space(params)
    _, _, reward, terminated, _, info = run(env, params, lambda key, _: space.sample(key), 16, 40)
    final = info["final_observation"]
    np.testing.assert_array_equal(env.reward_fn(final.achieved_goal, final.goal), reward)
    np.testing.assert_array_equal(env.terminated_fn(final.achieved_goal, final.goal), terminated)
    assert set(np.unique(reward)) == {-1.0, 0.0}
    assert env.reward_fn(final.achieved_goal, final.goal).dtype == jnp.float32
    assert np.asarray(env.terminated_fn(final.achieved_goal, final.achieved_goal)).all() == env.ends_at_goal


def test_torsos_see_the_goal_beside_the_features():
    env, params = envs.make("BitFlipping-4")
    seen, _ = jax.vmap(lambda key: env.reset(key, params))(jax.random.split(jax.random.key(0), 3))
    inputs = network_input(seen.features, seen.goal, 1)
    assert inputs.dtype == seen.features.dtype == seen.goal.dtype
    np.testing.assert_array_equal(inputs, np.concatenate([seen.features, seen.goal], axis=1))


@pytest.mark.parametrize("env", [BitFlipping(5), PointReach()], ids=lambda env: env.name)
def test_the_declared_spaces_hold_what_is_seen(env):
    params = env.default_params
    space = env.observation_space(params)
    seen = run(env, params, lambda key, _: env.action_space(params).sample(key), 4, 60)[0]
    assert isinstance(seen, Observation)
    assert set(space.spaces) == {"features", "goal", "achieved_goal"}
    for name, part in space.spaces.items():
        values = getattr(seen, name)
        assert (values.shape[2:], values.dtype) == (part.shape, part.dtype)
        assert (part.low <= values).all() and (values <= part.high).all()


def test_names():
    for name in ("BitFlipping-40", "jaxrl/BitFlipping-40"):
        env, params = jaxrl.make(name)
        assert (env.num_bits, env.name, params.max_steps_in_episode) == (40, "BitFlipping-40", 40)
    env, params = jaxrl.make("BitFlipping", num_bits=6, max_steps_in_episode=9)
    assert (env.num_bits, params.max_steps_in_episode) == (6, 9)
    assert jaxrl.make("BitFlipping")[0].num_bits == 8
    assert jaxrl.make("BitFlipping-4", num_bits=4)[0].num_bits == 4
    env, params = jaxrl.make("jaxrl/PointReach", radius=0.2, push=0.1)
    assert (env.name, env.radius, params.push) == ("PointReach", 0.2, 0.1)
    assert {"BitFlipping", "PointReach"} <= set(envs.available())


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("bitflipping", {}, envs.UnknownEnvironment, "did you mean 'BitFlipping'"),
        ("BitFlipping-x", {}, envs.UnknownEnvironment, "did you mean 'BitFlipping'.*a number, as in 'BitFlipping-8'"),
        ("jaxrl/PointReech", {}, envs.UnknownEnvironment, "did you mean 'PointReach'"),
        ("gymnax/BitFlipping", {}, envs.UnknownEnvironment, "BitFlipping"),
        ("BitFlipping", {"bits": 3}, envs.UnknownArgument, "did you mean 'num_bits'"),
        ("BitFlipping-0", {}, ValueError, "^BitFlipping-0: num_bits: got 0, must be at least 1"),
        ("BitFlipping", {"num_bits": 2.5}, TypeError, "BitFlipping: num_bits: got 2.5"),
        ("BitFlipping-40", {"num_bits": 8}, ValueError, "num_bits: got 8, must be 40"),
        ("PointReach", {"radius": 0.0}, ValueError, "PointReach: radius: got 0.0, must be above 0"),
    ],
)
def test_wrong_names_and_sizes_are_refused(name, arguments, error, message):
    with pytest.raises(error, match=message):
        envs.make(name, **arguments)
