"""The last k observations, and the agent's own memory fed back: both against plain loops, with ends in the middle."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import envs, rollout
from jaxrl.agents.parts import normalizer
from jaxrl.envs.probes import DiscountProbe
from jaxrl.envs.wrappers import Wrapper, flatten_observation, layers, mask_actions, time_limit
from jaxrl.networks import MLP
from jaxrl.ops.normalize import update_statistics
from jaxrl.training import evaluate, start
from jaxrl.training.loop import advance
from jaxrl.types import Agent, Observation, Remembered

B, T, K = 6, 60, 4
SHAPES = {"h": jax.ShapeDtypeStruct((2,), jnp.float32), "n": jax.ShapeDtypeStruct((), jnp.int32)}


def steps(env, params, act, num_steps=T):
    """First observation, then what each step returned, leaves ``[T, B, ...]``; ``act(observation, t)``."""

    @jax.jit
    def play():
        reset_keys, *keys = jax.random.split(jax.random.key(0), (num_steps + 1, B))
        observation, state = jax.vmap(env.reset, in_axes=(0, None))(reset_keys, params)

        def body(carry, given):
            observation, state = carry
            step = jax.vmap(env.step, in_axes=(0, 0, 0, None))
            after, state, *outcome = step(given[0], state, act(observation, given[1]), params)
            return (after, state), (after, *outcome)

        return observation, jax.lax.scan(body, (observation, state), (jnp.stack(keys), jnp.arange(num_steps)))[1]

    return jax.tree.map(np.asarray, play())


def cart_pole():
    """Falls after 8 to 60 steps and is cut after 12: both ends occur."""
    env, params = jaxrl.make("CartPole-v1")
    return time_limit(env, 12), params


def random_actions(observation, t):
    del observation
    return jax.random.randint(jax.random.fold_in(jax.random.key(1), t), (B,), 0, 2)


def test_a_window_is_the_last_observations_of_the_episode():
    env, params = cart_pole()
    first, (observation, _, terminated, truncated, info) = steps(env, params, random_actions)
    wrapped = steps(envs.window(env, K), params, random_actions)
    assert terminated.sum() > 4 and (truncated & ~terminated).sum() > 4
    for b in range(B):
        seen = [first[b]]
        np.testing.assert_array_equal(wrapped[0][b], stacked(seen))
        for t in range(T):
            final = info["final_observation"][t, b]
            np.testing.assert_allclose(wrapped[1][-1]["final_observation"][t, b], stacked([*seen, final]), rtol=1e-5)
            ended = terminated[t, b] or truncated[t, b]
            seen = [observation[t, b]] if ended else [*seen, observation[t, b]]
            np.testing.assert_allclose(wrapped[1][0][t, b], stacked(seen), rtol=1e-5)


def stacked(seen):
    """A window of observations, written as its definition says."""
    expected = np.zeros((K, len(seen[0]) + 1))
    expected[:, -1] = 1.0
    for row, one in zip(reversed(range(K)), reversed(seen), strict=False):
        expected[row] = [*one, 0.0]
    return expected


@pytest.mark.parametrize("k", [1, 3])
def test_windows_keep_the_protocol(k):
    env, params = cart_pole()
    for inside in (env, time_limit(envs.window(env, k), 9)):
        report = envs.check(envs.window(inside, k), params)
        assert report.truncated > 50
    assert envs.spec(envs.window(env, k), params).observation == jax.ShapeDtypeStruct((k, 5), jnp.float32)
    assert envs.window(env, k).observation_space(params).shape == (k, 5)


@pytest.mark.parametrize("recipe", [jaxrl.reinforce, jaxrl.a2c, jaxrl.ppo, jaxrl.trpo])
def test_statistics_of_first_steps_alone_do_not_hide_what_is_absent(recipe):
    """A row that was absent in all samples has a flag of mean 1, which would be standardised to 0: present."""
    env, params = jaxrl.make("CartPole-v1")
    env = envs.window(env, K)
    described = envs.spec(env, params)
    agent = recipe(described, torso=MLP((4,)), normalize_observation=True)
    resets = jax.vmap(env.reset, in_axes=(0, None))(jax.random.split(jax.random.key(0), B), params)[0]
    statistics = agent.init(jax.random.key(1)).statistics
    statistics = statistics._replace(observation=update_statistics(statistics.observation, resets))
    seen = normalizer.standardize(described, statistics, resets)
    np.testing.assert_array_equal(seen[..., -1], resets[..., -1])
    np.testing.assert_array_equal(seen[0, :, -1], [1.0] * (K - 1) + [0.0])
    np.testing.assert_allclose(seen[:, -1, :-1].std(0), 1.0, rtol=1e-2)


def test_flags_are_known_through_wrappers():
    env, params = jaxrl.make("CartPole-v1")
    flags = np.tile([False] * 4 + [True], (2, 1))
    window = envs.window(env, 2)
    for wrapped in (window, time_limit(window, 3), envs.remember(window, SHAPES), envs.expose_state(window)):
        np.testing.assert_array_equal(envs.spec(wrapped, params).flags, flags)
    np.testing.assert_array_equal(envs.spec(flatten_observation(window), params).flags, flags.reshape(-1))
    twice = envs.spec(envs.window(window, 1), params).flags
    np.testing.assert_array_equal(twice, [[*flags.reshape(-1), True]])
    assert envs.spec(time_limit(env, 3), params).flags is None


def test_other_parts_of_the_observation_are_those_of_the_newest_step():
    env, params = jaxrl.make("CartPole-v1", max_steps_in_episode=10)
    masked = mask_actions(env, lambda state, params: jnp.array([True, False]) | (state.x < 0.0))
    _, (plain, *_, plain_info) = steps(masked, params, lambda o, t: o.action_mask[:, 1].astype(jnp.int32))
    window = envs.window(masked, K)
    _, (found, *_, info) = steps(window, params, lambda o, t: o.action_mask[:, 1].astype(jnp.int32))
    np.testing.assert_array_equal(found.action_mask, plain.action_mask)
    np.testing.assert_array_equal(info["final_observation"].action_mask, plain_info["final_observation"].action_mask)
    np.testing.assert_allclose(found.features[:, :, -1, :-1], plain.features, rtol=1e-5)
    assert set(window.observation_space(params).spaces) == {"features", "action_mask"}
    goal, params = jaxrl.make("BitFlipping-4")
    described = envs.spec(envs.window(goal, K), params).observation
    assert described.features.shape == (K, 5) and described.goal.shape == (4,)
    envs.check(window, params=jaxrl.make("CartPole-v1", max_steps_in_episode=10)[1])


def test_features_of_any_shape_become_rows():
    env, params = jaxrl.make("Breakout-MinAtar")
    assert envs.spec(envs.window(env, 2), params).observation.shape == (2, 401)
    env, params = jaxrl.make("FrozenLake-misc")
    described = envs.spec(envs.window(env, 2), params)
    assert described.observation.shape == (2, 2) and described.num_observations is None
    pixels = envs.probes.ImageProbe()
    seen, _ = pixels.reset(jax.random.key(0), pixels.default_params)
    shown, _ = envs.window(pixels, 1).reset(jax.random.key(0), pixels.default_params)
    assert seen.dtype == jnp.uint8
    np.testing.assert_allclose(shown[0, :-1], seen.reshape(-1) / 255.0, rtol=1e-6)


@pytest.mark.parametrize("k", [0, -1, 2.0, True, None])
def test_a_window_of_no_steps_is_refused(k):
    with pytest.raises((TypeError, ValueError), match="window: got .*, must be"):
        envs.window(DiscountProbe(), k)


def count(observation, t):
    """Remembers how many steps it has seen of the episode, and of which step this is."""
    n = observation.memory["n"] + 1
    return Remembered(random_actions(observation, t), {"h": jnp.stack([n, n + t], -1).astype(jnp.float32), "n": n})


def test_memory_comes_back_and_is_zero_where_an_episode_starts():
    env, params = cart_pole()
    first, (plain, *_) = steps(env, params, random_actions)
    begun, (observation, _, terminated, truncated, info) = steps(envs.remember(env, SHAPES), params, count)
    np.testing.assert_array_equal(begun.features, first)
    np.testing.assert_allclose(observation.features, plain, rtol=1e-5)
    np.testing.assert_array_equal(begun.memory["n"], 0)
    ended = terminated | truncated
    assert ended.sum() > 20
    age = np.zeros(B, int)
    for t in range(T):
        age += 1
        np.testing.assert_array_equal(info["final_observation"].memory["n"][t], age)
        np.testing.assert_array_equal(info["final_observation"].memory["h"][t, :, 1], age + t)
        age[ended[t]] = 0
        np.testing.assert_array_equal(observation.memory["n"][t], age)
        np.testing.assert_array_equal(observation.memory["h"][t, :, 0], age)


def test_remembering_keeps_the_protocol_and_is_described():
    env, params = cart_pole()
    wrapped = envs.remember(mask_actions(jaxrl.make("CartPole-v1")[0], lambda *_: jnp.array([True, True])), SHAPES)
    assert envs.check(wrapped, params).terminated > 50
    described = envs.spec(envs.remember(env, SHAPES), params)
    assert described.observation.memory == SHAPES and described.action == jaxrl.types.Discrete(2)
    assert set(wrapped.observation_space(params).spaces) == {"features", "action_mask"}
    assert set(envs.remember(env, SHAPES).observation_space(params).spaces) == {"features"}


def test_layers_are_peeled_one_by_one():
    env, params = jaxrl.make("CartPole-v1")
    wrapped = envs.remember(envs.window(time_limit(env, 12), 2), SHAPES)
    kinds, states = zip(*layers(wrapped, wrapped.reset(jax.random.key(0), params)[1]), strict=True)
    assert [type(one) for one in kinds[:3]] == [type(wrapped), type(wrapped.env), type(wrapped.env.env)]
    assert kinds[3] is env and states[0] is states[1] and states[3] is states[1].env_state.env_state
    model = envs.simulator(wrapped.env, params)
    assert int(model.steps_taken(states[1])) == 0
    assert int(model.steps_taken(model.step((), jax.random.key(0), states[1], jnp.int32(0)).state)) == 1


@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (0, TypeError, r"action: got int, must be jaxrl.types.Remembered"),
        (Remembered(0, {"n": jnp.int32(0)}), ValueError, "action.memory: got .*, must be"),
        (Remembered(0, {"h": jnp.zeros(3), "n": jnp.int32(0)}), ValueError, "action.memory: got .*, must be"),
    ],
)
def test_actions_without_the_memory_are_refused(action, error, message):
    env = envs.remember(DiscountProbe(), SHAPES)
    _, state = env.reset(jax.random.key(0))
    with pytest.raises(error, match=message):
        env.step(jax.random.key(0), state, action)


def test_memories_of_no_shape_and_two_memories_are_refused():
    for nothing in ((), None, 3.0):
        with pytest.raises(TypeError, match="memory: got .*, must be a pytree of arrays"):
            envs.remember(DiscountProbe(), nothing)
    twice = envs.remember(envs.remember(DiscountProbe(), SHAPES), SHAPES)
    with pytest.raises(ValueError, match="already feeds a memory back"):
        envs.spec(twice)


class CounterState(NamedTuple):
    params: jax.Array
    per_env: tuple = ()


def counter():
    """An agent whose memory is the age of the episode, and which learns what its memories add up to."""

    def act(key, state, observation, *, explore=True):
        n = observation.memory["n"] + 1
        action = jax.random.randint(key, n.shape, 0, 2) if explore else n % 2
        return Remembered(action, {"h": jnp.zeros((*n.shape, 2)), "n": n}), n

    def update(key, state, trajectory):
        first = trajectory.observation.memory["n"]
        return CounterState(state.params + first.sum() + trajectory.extras.sum()), {"first": first.sum()}

    return Agent(lambda key, num_envs=1: CounterState(jnp.zeros((), jnp.int32)), act, update)


def test_a_trajectory_has_the_memory_of_its_first_step_and_plain_actions():
    env, params = cart_pole()
    env, agent = envs.remember(env, SHAPES), counter()
    observation, env_state = rollout.reset(jax.random.key(0), env, params, B)
    for length in (7, 9):
        before = observation
        env_state, observation, trajectory = jax.jit(rollout.rollout, static_argnums=(1, 3, 7))(
            jax.random.key(length), agent, (), env, params, env_state, observation, length
        )
        assert trajectory.action.shape == (length, B) and jnp.issubdtype(trajectory.action.dtype, jnp.integer)
        jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[0], y), trajectory.observation.memory, before.memory)
        assert jax.tree.leaves(trajectory.observation.memory)[0].shape[0] == 1
        assert trajectory.next_observation.memory is None
    assert (before.memory["n"] > 0).any(), "the second rollout starts within episodes"


def test_training_goes_on_with_the_memory_and_evaluation_starts_afresh():
    env, params = cart_pole()
    env, agent, key = envs.remember(env, SHAPES), counter(), jax.random.key(3)
    begin = start(key, agent, env, params, B)
    go = jax.jit(lambda state: advance(key, agent, env, params, state, num_updates=3, rollout_length=5))
    half, _ = go(begin)
    whole, _ = go(half)
    again, _ = go(jax.tree.map(jnp.asarray, jax.tree.map(np.asarray, half)))
    jax.tree.map(np.testing.assert_array_equal, whole, again)
    np.testing.assert_array_equal(whole.observation.memory["n"], whole.episode_length)
    # Acting on the parity of its memory, every episode is the same function of its start.
    play = lambda: evaluate(jax.random.key(5), agent, whole.agent, env, params, num_episodes=32, max_steps=12)  # noqa: E731
    assert (play().lengths >= 8).all() and (play().lengths <= 12).all()


def test_wrappers_inside_see_plain_actions():
    class Doubled(Wrapper):
        def step(self, key, state, action, params=None):
            observation, state, reward, *rest = super().step(key, state, action, params)
            assert not isinstance(action, Remembered)
            return observation, state, 2 * reward, *rest

    env, params = cart_pole()
    _, (observation, reward, *_) = steps(envs.remember(flatten_observation(Doubled(env)), SHAPES), params, count)
    assert (reward == 2.0).all() and isinstance(observation, Observation)
