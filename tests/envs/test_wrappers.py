"""Wrappers change what they say, nothing else, and nest."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import environment, spaces
from gymnax.wrappers.purerl import LogWrapper, StickyActionWrapper

from jaxrl import envs
from jaxrl.envs.probes import DiscountProbe, MaskedProbe, TruncationProbe
from jaxrl.envs.wrappers import Wrapper, flatten_observation, mask_actions, time_limit
from jaxrl.types import Discrete, Observation


def run(env, params, num_steps, num_envs=8):
    """A recorded run of random actions, leaves ``[T, B, ...]``, with the state after each step."""
    num_actions = envs.spec(env, params).action.num_actions
    # Drawn outside of the program, which compiles in half the time then.
    keys = jax.random.split(jax.random.key(0), (1 + num_steps, num_envs))
    actions = np.random.default_rng(0).integers(num_actions, size=(num_steps, num_envs), dtype=np.int32)

    def body(state, inputs):
        step = jax.vmap(env.step, in_axes=(0, 0, 0, None))
        observation, state, *outcome = step(inputs[0], state, inputs[1], params)
        return state, (observation, state, *outcome)

    def record(keys, actions):
        _, state = jax.vmap(env.reset, in_axes=(0, None))(keys[0], params)
        return jax.lax.scan(body, state, (keys[1:], actions))[1]

    return jax.device_get(jax.jit(record)(keys, actions))


def cut(state, params):
    """Cart-pole: no push to the right on the right half."""
    return jnp.array([True, False]) | (state.x < 0.0)


def test_the_base_forwards_all_of_the_protocol_and_nothing_else():
    env, params = envs.make("CartPole-v1")
    wrapper = Wrapper(env)
    assert wrapper.name == "CartPole-v1"
    assert wrapper.num_actions == 2
    assert wrapper.default_params == params
    assert envs.spec(wrapper) == envs.spec(env)
    np.testing.assert_array_equal(wrapper.observation_space().high, env.observation_space(params).high)
    assert isinstance(wrapper, envs.Environment)
    assert not hasattr(wrapper, "step_env")
    for found, expected in zip(run(wrapper, params, 5), run(env, params, 5), strict=True):
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_params_may_be_left_out():
    for env in (time_limit(DiscountProbe(), 3), flatten_observation(DiscountProbe()), Wrapper(DiscountProbe())):
        _, state = env.reset(jax.random.key(0))
        assert len(env.step(jax.random.key(0), state, 0)) == 6
        assert env.action_space().n == 2


def test_time_limit_equals_a_limit_of_the_environment_itself():
    own = TruncationProbe()
    wrapped = time_limit(own, 5)
    endless = own.default_params.replace(max_steps_in_episode=10_000)
    expected = run(own, own.default_params, 23)
    found = run(wrapped, endless, 23)
    assert expected[4].sum() == 4 * 8
    for index in (0, 2, 3, 4):
        np.testing.assert_array_equal(found[index], expected[index])
    for name in ("final_observation", "truncated", "terminated", "discount"):
        np.testing.assert_array_equal(found[5][name], expected[5][name])
    np.testing.assert_array_equal(wrapped.inner_state(found[1]).time, expected[1].time)


def test_time_limit_counts_from_each_end():
    # Cart-pole by random actions falls after 9 to 60 steps, so that both ends occur.
    env, params = envs.make("CartPole-v1")
    _, state, _, terminated, truncated, _ = run(time_limit(env, 20), params, 200)
    assert terminated.sum() > 10
    assert (truncated & ~terminated).sum() > 10
    length = np.zeros(8, int)
    for t in range(200):
        length += 1
        np.testing.assert_array_equal(truncated[t], length == 20)
        length[terminated[t] | truncated[t]] = 0
        np.testing.assert_array_equal(state.num_steps[t], length)
        np.testing.assert_array_equal(state.env_state.time[t], length)


def test_the_shorter_of_two_limits_holds_whichever_is_inside():
    env = TruncationProbe()
    params = env.default_params.replace(max_steps_in_episode=1000)
    for nested in (time_limit(time_limit(env, 3), 4), time_limit(time_limit(env, 4), 3)):
        truncated = run(nested, params, 12)[4]
        np.testing.assert_array_equal(truncated[:, 0], [False, False, True] * 4)


@pytest.mark.parametrize("max_steps", [0, -1, 2.0, True, None])
def test_time_limit_refuses_what_is_no_number_of_steps(max_steps):
    with pytest.raises((TypeError, ValueError), match="max_steps: got"):
        time_limit(DiscountProbe(), max_steps)


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("Breakout-MinAtar", (400,), jnp.float32),
        ("FourRooms-misc", (4,), jnp.int32),
        ("FrozenLake-misc", (1,), jnp.int32),
    ],
)
def test_flatten_makes_vectors_of_the_same_numbers(name, shape, dtype):
    env, params = envs.make(name, max_steps_in_episode=4)
    flat = flatten_observation(env)
    assert envs.spec(flat, params).observation == jax.ShapeDtypeStruct(shape, dtype)
    assert flat.observation_space(params).shape == shape
    found, expected = run(flat, params, 6), run(env, params, 6)
    np.testing.assert_array_equal(found[0].reshape(expected[0].shape), expected[0])
    final = expected[5]["final_observation"]
    np.testing.assert_array_equal(found[5]["final_observation"].reshape(final.shape), final)
    assert (final != expected[0]).any()


def test_flatten_leaves_the_mask_alone():
    class Square(MaskedProbe):
        def get_obs(self, state, params=None, key=None):
            return super().get_obs(state)._replace(features=jnp.zeros((2, 3)))

    described = envs.spec(flatten_observation(Square())).observation
    assert described.features.shape == (6,)
    assert described.action_mask.shape == (3,)


def test_a_mask_changes_nothing_but_the_observation():
    env, params = envs.make("CartPole-v1", max_steps_in_episode=15)
    masked = mask_actions(env, cut)
    assert envs.spec(masked, params).observation.action_mask == jax.ShapeDtypeStruct((2,), jnp.bool_)
    assert set(masked.observation_space(params).spaces) == {"features", "action_mask"}
    found, expected = run(masked, params, 60), run(env, params, 60)
    # Two programs, which XLA may round differently.
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    close(found[0].features, expected[0])
    close(found[5]["final_observation"].features, expected[5]["final_observation"])
    jax.tree.map(close, found[1], expected[1])
    for index in (2, 3, 4):
        np.testing.assert_array_equal(found[index], expected[index])
    for name in ("terminated", "truncated", "discount"):
        np.testing.assert_array_equal(found[5][name], expected[5][name])


def test_the_mask_of_the_final_observation_is_that_of_the_final_state():
    env, params = envs.make("CartPole-v1", max_steps_in_episode=15)
    observation, state, _, terminated, truncated, info = run(mask_actions(env, cut), params, 60)
    final = info["final_observation"]
    # The position is the first feature, so that the right mask can be told from the features.
    np.testing.assert_array_equal(final.action_mask[..., 1], final.features[..., 0] < 0)
    np.testing.assert_array_equal(observation.action_mask[..., 1], state.x < 0)
    at_cut = truncated & ~terminated
    assert (final.action_mask != observation.action_mask)[at_cut].any()


def test_mask_goes_into_an_observation_with_other_parts():
    class Goal(DiscountProbe):
        def get_obs(self, state, params=None, key=None):
            return Observation(super().get_obs(state), goal=jnp.ones(2))

    env = mask_actions(Goal(), lambda state, params: jnp.array([True, False]))
    observation, _ = env.reset(jax.random.key(0))
    np.testing.assert_array_equal(observation.action_mask, [True, False])
    np.testing.assert_array_equal(observation.goal, [1, 1])


@pytest.mark.parametrize(
    "legal",
    [lambda *_: jnp.ones(3, bool), lambda *_: jnp.ones(2), lambda *_: jnp.bool_(True)],
    ids=["shape", "dtype", "scalar"],
)
def test_a_mask_of_another_shape_or_dtype_is_refused(legal):
    with pytest.raises(ValueError, match=r"legal_fn: got .*, must return bool\[2\]"):
        envs.spec(mask_actions(DiscountProbe(), legal))


@pytest.mark.parametrize(
    "env",
    [time_limit(DiscountProbe(), 3), LogWrapper(DiscountProbe()), envs.make("DeepSea-bsuite")[0], object()],
    ids=lambda env: type(env).__name__,
)
def test_a_mask_refuses_environments_whose_step_it_would_bypass(env):
    with pytest.raises(TypeError, match=r"env: got .*, must inherit its step"):
        mask_actions(env, cut)


def test_a_mask_refuses_continuous_actions():
    with pytest.raises(TypeError, match="must have discrete"):
        mask_actions(envs.make("Pendulum-v1")[0], cut)


def limited_cart_pole():
    return envs.make("CartPole-v1", max_steps_in_episode=30)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda env: time_limit(env, 12),
        lambda env: flatten_observation(mask_actions(env, cut)),
        lambda env: time_limit(time_limit(mask_actions(env, cut), 15), 12),
        lambda env: LogWrapper(time_limit(env, 12)),
        lambda env: time_limit(LogWrapper(StickyActionWrapper(env, 0.2)), 12),
    ],
    ids=["limit", "mask_flat", "mask_limit_limit", "limit_log", "sticky_log_limit"],
)
def test_wrapped_environments_keep_the_protocol(wrap):
    env, params = limited_cart_pole()
    report = envs.check(wrap(env), params)
    assert min(report.terminated, report.truncated) > 8
    assert envs.spec(wrap(env), params).action == Discrete(2)


def test_wrappers_inside_are_not_bypassed():
    """A wrapper that changes rewards in its ``step`` is still there under a time limit and a flattening."""

    class Doubled(Wrapper):
        def step(self, key, state, action, params=None):
            observation, state, reward, *rest = super().step(key, state, action, params)
            return observation, state, 2 * reward, *rest

    env, params = limited_cart_pole()
    reward = run(time_limit(flatten_observation(Doubled(env)), 10), params, 20)[2]
    assert (reward == 2.0).all()


def test_the_environment_inside_is_a_gymnax_one_by_protocol_alone():
    env = mask_actions(DiscountProbe(), lambda state, params: jnp.array([True, True]))
    assert not isinstance(env, environment.Environment)
    assert isinstance(env.observation_space(), spaces.Dict)
    assert isinstance(env, envs.Environment)
