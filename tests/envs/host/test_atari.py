"""Atari through ``HostEnv`` against ALE's own vector environment on the same seeds and actions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from gymnasium.vector import AutoresetMode

import jaxrl
from jaxrl import envs
from jaxrl.types import Discrete

SEEDS = np.array([3, 4], np.int32)


def played(env, actions):
    """Steps with given actions [T, B]; the results [T, B, ...] and the first observation."""
    size = actions.shape[1]
    params = env.default_params

    @jax.jit
    def go(key):
        observation, state = jax.vmap(env.reset, (0, None))(jax.random.split(key, size), params)

        def body(state, action):
            keys = jax.random.split(key, size)
            observation, state, *rest = jax.vmap(env.step, (0, 0, 0, None))(keys, state, action, params)
            return state, (observation, *rest)

        return observation, jax.lax.scan(body, state, actions)[1]

    return jax.tree.map(np.asarray, go(jax.random.key(0)))


def actions(num_steps, num_actions, seed=0):
    return np.random.default_rng(seed).integers(0, num_actions, (num_steps, len(SEEDS))).astype(np.int32)


def test_frames_ends_and_resets_are_those_of_ale():
    """ALE's same-step resets keep the last observation in ``final_obs``; ours are resets by a mask."""
    env, _ = jaxrl.make("ale/breakout")
    taken = actions(400, 4)
    first, (observation, reward, terminated, truncated, info) = played(env, taken)
    (instance,) = env._instances.values()
    theirs = AtariVectorEnv("breakout", 2, reward_clipping=False, autoreset_mode=AutoresetMode.SAME_STEP)
    expected, _ = theirs.reset(seed=np.asarray(instance.seeds, np.int32))
    last = lambda pictures: np.moveaxis(pictures, 1, -1)  # noqa: E731
    np.testing.assert_array_equal(first, last(expected))
    for t, action in enumerate(taken):
        expected, r, over, cut, told = theirs.step(action)
        np.testing.assert_array_equal(reward[t], r)
        np.testing.assert_array_equal(terminated[t], over)
        np.testing.assert_array_equal(observation[t], last(expected))
        final = (
            np.where((over | cut)[:, None, None, None], told["final_obs"], expected) if (over | cut).any() else expected
        )
        np.testing.assert_array_equal(info["final_observation"][t], last(final))
    assert terminated.sum() >= 3 and not truncated.any() and reward.sum() > 0
    theirs.close()


def test_a_return_ends_with_a_life_and_the_episode_with_the_game():
    env, _ = jaxrl.make("ale/breakout", life_loss=True)
    _, (_, _, terminated, truncated, info) = played(env, actions(500, 4))
    over = np.flatnonzero(terminated[:, 0])
    lost = np.flatnonzero(info["discount"][:, 0] == 0)
    assert len(over) >= 2 and set(over) <= set(lost)
    assert [np.sum((lost > a) & (lost <= b)) for a, b in zip([-1, *over], over, strict=False)] == [5] * len(over)
    assert not truncated.any()


def test_it_passes_the_check_with_a_time_limit():
    env, params = jaxrl.make("ale/pong", max_steps_in_episode=30, num_threads=1)
    assert envs.check(env, params, num_envs=8, num_steps=64).episodes > 8


def test_equal_keys_give_equal_games_whatever_the_threads():
    """Sticky actions and no-ops are drawn by the seeds."""
    runs = [
        played(jaxrl.make("ale/freeway", repeat_action_probability=0.25, num_threads=threads)[0], actions(40, 3))
        for threads in (1, 2)
    ]
    jax.tree.map(np.testing.assert_array_equal, *runs)
    plain = played(jaxrl.make("ale/freeway")[0], actions(40, 3))
    assert (plain[1][0] != runs[0][1][0]).any()


def test_settings_reach_the_pictures():
    env, params = jaxrl.make("ale/pong", screen_size=42, num_stacked=2, full_action_space=True, frame_skip=2)
    assert jaxrl.spec(env, params).observation == jax.ShapeDtypeStruct((42, 42, 2), jnp.uint8)
    assert env.action_space() == Discrete(18)
    assert params.max_steps_in_episode == 27_000 and len(envs.available("ale")) > 100


def test_a_picture_shows_what_the_agent_sees():
    env, params = jaxrl.make("ale/pong")
    observation, state = jax.vmap(env.reset, (0, None))(jax.random.split(jax.random.key(0), 2), params)
    picture = env.render(jax.tree.map(lambda x: x[1], state))
    assert picture.shape == (252, 252, 3)
    np.testing.assert_array_equal(picture[::3, ::3, 0], observation[1, :, :, -1])


@pytest.mark.parametrize(
    ("setting", "value"),
    [("frame_skip", 0), ("screen_size", 0), ("num_stacked", 0), ("noop_max", -1), ("repeat_action_probability", 1.5)],
)
def test_odd_settings_are_refused(setting, value):
    with pytest.raises(ValueError, match=rf"ale/pong: {setting}: got {value}"):
        jaxrl.make("ale/pong", **{setting: value})


def test_an_unknown_game_is_refused():
    with pytest.raises(envs.UnknownEnvironment, match="ale/space_invaders"):
        jaxrl.make("ale/SpaceInvaders")
