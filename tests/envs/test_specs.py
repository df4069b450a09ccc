"""What ``spec`` reads, and what it refuses."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

from jaxrl import envs
from jaxrl.types import Box, Discrete, Observation


class Fixed:
    """An environment that inherits from nothing, with a given observation and action space."""

    default_params = None

    def __init__(self, observation=None, space=None):
        self.observation = np.zeros(3, np.float32) if observation is None else observation
        self.space = spaces.Discrete(2) if space is None else space

    def reset(self, key, params=None):
        return jax.tree.map(jnp.asarray, self.observation), jnp.int32(0)

    def action_space(self, params=None):
        return self.space


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    [
        ("CartPole-v1", (4,), jnp.float32),
        ("Breakout-MinAtar", (10, 10, 4), jnp.float32),
        # Declared float32 and int32 respectively, which is not what a reset returns.
        ("FourRooms-misc", (4,), jnp.int32),
        ("Catch-bsuite", (10, 5), jnp.float32),
    ],
)
def test_the_observation_is_that_of_a_reset(name, shape, dtype):
    observation = envs.spec(*envs.make(name)).observation
    assert observation == jax.ShapeDtypeStruct(shape, dtype)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.int32, np.uint8, np.bool_])
def test_dtypes_that_are_numbers_pass(dtype):
    assert envs.spec(Fixed(np.zeros((2, 2), dtype))).observation == jax.ShapeDtypeStruct((2, 2), dtype)


def test_a_named_observation_keeps_its_parts():
    observation = Observation(
        features=np.zeros(3, np.uint8), action_mask=np.ones(2, bool), env_state={"key": jax.random.key(0)}
    )
    found = envs.spec(Fixed(observation)).observation
    assert found.features == jax.ShapeDtypeStruct((3,), jnp.uint8)
    assert found.action_mask == jax.ShapeDtypeStruct((2,), jnp.bool_)
    assert found.goal is None
    assert found.env_state["key"].dtype == jax.random.key(0).dtype


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        ({"a": np.zeros(3)}, "observation: got a dict.*Observation"),
        ((np.zeros(3), np.zeros(2)), "observation: got a tuple.*Observation"),
        (Observation(features=[np.zeros(3)]), "Observation.features: got a list"),
        (Observation(features=None, goal=np.zeros(2)), "Observation.features: got a NoneType"),
        (np.zeros(3, np.complex64), "complex64"),
        (Observation(features=np.zeros(3), goal=np.zeros(2, np.complex64)), "Observation.goal: got dtype complex64"),
        (np.zeros((2, 0, 3), np.float32), r"observation: got float32\[2, 0, 3\]"),
        (np.zeros(0, np.int32), r"observation: got int32\[0\]"),
        (Observation(features=np.zeros(0)), r"Observation.features: got float32\[0\]"),
        (Observation(features=np.zeros(3), goal=np.zeros((0,))), r"Observation.goal: got float32\[0\]"),
        (Observation(features=np.zeros(3), action_mask=np.ones(3, bool)), r"got bool\[3\], must be bool\[2\]"),
        (Observation(features=np.zeros(3), action_mask=np.ones(2)), r"got float32\[2\], must be bool\[2\]"),
    ],
)
def test_observations_that_are_refused(observation, message):
    with pytest.raises(envs.SpecError, match=message):
        envs.spec(Fixed(observation))


def test_prng_keys_are_no_observation():
    with pytest.raises(envs.SpecError, match="key<"):
        envs.spec(Fixed(jax.random.key(0)))


@pytest.mark.parametrize(
    "space", [spaces.Discrete(5), gymnasium.spaces.Discrete(5), Discrete(5)], ids=["gymnax", "gymnasium", "jaxrl"]
)
def test_discrete_spaces(space):
    assert envs.spec(Fixed(space=space)).action == Discrete(5)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1.0, jnp.array([1.0, 3.0]), (2,)),
        gymnasium.spaces.Box(np.float32([-1, -1]), np.float32([1, 3])),
    ],
    ids=["gymnax", "gymnasium"],
)
def test_the_bounds_of_a_box_have_its_shape(space):
    action = envs.spec(Fixed(space=space)).action
    assert action.shape == (2,)
    for bound, expected in ((action.low, [-1, -1]), (action.high, [1, 3])):
        assert isinstance(bound, np.ndarray)
        assert bound.dtype == np.float32
        np.testing.assert_array_equal(bound, expected)


def test_a_jaxrl_box_is_taken_as_it_is():
    box = Box((2,), -1.0, 1.0)
    assert envs.spec(Fixed(space=box)).action is box


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Discrete(0), r"Discrete\(0\)"),
        (Discrete(0), r"Discrete\(0\)"),
        (Discrete(-1), r"Discrete\(-1\)"),
        (Discrete(2.5), r"Discrete\(2.5\)"),
        (Discrete(True), r"Discrete\(True\)"),
        (spaces.Box(0.0, np.nan, (2,)), "bounds .*nan"),
        (Box((2,), np.nan, 1.0), "bounds .*nan"),
        (Box((2,), 1.0, -1.0), "low must be at most high"),
        (Box((1,), np.inf, np.inf), "low=.inf.* at most high"),
        (Box((1,), -np.inf, -np.inf), "low must be at most high"),
        (Box((0,), -1.0, 1.0), r"Box of shape \(0,\)"),
        (spaces.Box(-1.0, 1.0, (2, 0)), r"Box of shape \(2, 0\)"),
        (spaces.Discrete, "got type, must be Discrete or Box"),
        (gymnasium.spaces.MultiDiscrete([2, 3]), "got MultiDiscrete, must be Discrete or Box.*one Discrete"),
        (gymnasium.spaces.MultiBinary(3), "got MultiBinary, must be Discrete or Box"),
        (spaces.Dict({"a": spaces.Discrete(2)}), "got Dict, must be Discrete or Box"),
        (spaces.Tuple([spaces.Discrete(2)]), "got Tuple, must be Discrete or Box"),
        (spaces.Box(0, 3, (2,), jnp.int32), "got a Box of dtype int32"),
        (gymnasium.spaces.Discrete(3, start=1), r"Discrete\(3, start=1\)"),
        (spaces.Box(jnp.array([0.0, 2.0]), 1.0, (2,)), "low must be at most high"),
        (spaces.Box(jnp.zeros(3), 1.0, (2,)), r"low of shape \(3,\), must .*\(2,\)"),
    ],
)
def test_action_spaces_that_are_refused(space, message):
    with pytest.raises(envs.SpecError, match=message):
        envs.spec(Fixed(space=space))


def test_a_mask_needs_discrete_actions():
    observation = Observation(features=np.zeros(3), action_mask=np.ones(2, bool))
    with pytest.raises(envs.SpecError, match="only Discrete actions can be masked"):
        envs.spec(Fixed(observation, spaces.Box(-1.0, 1.0, (2,))))


def test_params_default_to_those_of_the_environment_and_are_used():
    env, params = envs.make("Pendulum-v1")
    np.testing.assert_array_equal(envs.spec(env).action.high, [2.0])
    params = params.replace(max_torque=5.0)
    np.testing.assert_array_equal(envs.spec(env, params).action.high, [5.0])


def test_bounds_are_concrete_inside_jit_and_may_follow_traced_params():
    env, params = envs.make("PointRobot-misc")

    @jax.jit
    def inside(x):
        assert isinstance(envs.spec(env, params).action.high, np.ndarray)
        return x

    inside(0.0)
    bounds = jax.vmap(lambda force: envs.spec(env, params.replace(max_force=force)).action.high)(jnp.array([0.5, 1.0]))
    np.testing.assert_array_equal(bounds, [[0.5, 0.5], [1.0, 1.0]])


class Numbered(Fixed):
    """Declares its observations."""

    def __init__(self, observation, declared):
        super().__init__(observation)
        self.declared = declared

    def observation_space(self, params=None):
        return self.declared


INDEX = np.zeros((), np.int32)
MASKED = Observation(features=INDEX, action_mask=np.ones(2, bool))


@pytest.mark.parametrize(
    ("observation", "declared", "expected"),
    [
        (INDEX, spaces.Discrete(7), 7),
        (INDEX, gymnasium.spaces.Discrete(7), 7),
        (INDEX, Discrete(7), 7),
        (INDEX, gymnasium.spaces.Discrete(7, start=1), None),
        (INDEX, spaces.Box(0, 7, ()), None),
        (np.zeros(1, np.int32), spaces.Discrete(7), None),
        (np.zeros((), np.float32), spaces.Discrete(7), None),
        (MASKED, spaces.Dict({"features": spaces.Discrete(7), "action_mask": spaces.Box(0, 1, (2,))}), 7),
        (MASKED, spaces.Discrete(7), None),
    ],
)
def test_observations_are_counted_where_they_are_single_integers(observation, declared, expected):
    assert envs.spec(Numbered(observation, declared)).num_observations == expected


def test_the_count_of_observations_is_that_of_the_environment():
    assert envs.spec(*envs.make("FrozenLake-misc")).num_observations == 16
    assert envs.spec(*envs.make("CartPole-v1")).num_observations is None
    assert envs.spec(Fixed(INDEX)).num_observations is None, "nothing is declared"


def test_no_reset_is_computed():
    class Costly(Fixed):
        def reset(self, key, params=None):
            def fail(key):
                raise AssertionError("reset was run")

            return jax.pure_callback(fail, jax.ShapeDtypeStruct((3,), jnp.float32), jnp.zeros(())), jnp.int32(0)

    assert envs.spec(Costly()).observation.shape == (3,)


def test_an_observation_that_is_an_object_of_python_is_named():
    class Opaque(Fixed):
        def reset(self, key, params=None):
            return self.see(), jnp.int32(0)

    for seen, said in (
        (object(), "observation: got a object"),
        ("north", "observation: got a str"),
        (None, "a NoneType"),
    ):
        env = Opaque()
        env.see = lambda seen=seen: seen
        with pytest.raises(envs.SpecError, match=said):
            envs.spec(env)


class NoParams(Fixed):
    def action_space(self):
        return self.space


class SpaceIsAnAttribute(Fixed):
    action_space = spaces.Discrete(2)


class ResetsByASeed(Fixed):
    def reset(self, *, seed=None, options=None):
        return np.zeros(3), {}


class NoActions:
    default_params = None

    def reset(self, key, params=None):
        return jnp.zeros(3), ()


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (gymnasium.make("CartPole-v1"), r"Gymnasium environment \(CartPole-v1\).*jaxrl.make\('CartPole-v1'\)"),
        (gymnasium.make("CartPole-v1").unwrapped, r"Gymnasium environment"),
        (gymnasium.make_vec("CartPole-v1", 2), r"Gymnasium environment"),
        ("CartPole-v1", r"the name 'CartPole-v1'.*jaxrl.make\('CartPole-v1'\)"),
        (("env", "params"), "a tuple.*pass the two separately"),
        (Fixed, "the class Fixed.*instance"),
        (NoParams(), r"action_space: NoParams.action_space takes \(\).*action_space\(self, params=None\)"),
        (SpaceIsAnAttribute(), "action_space: .* is a Discrete, must be a method"),
        (ResetsByASeed(), r"reset: .*declare reset\(self, key, params=None\)"),
        (NoActions(), "members: NoActions has no action_space"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_what_is_no_environment_is_named(env, said):
    with pytest.raises(envs.SpecError, match=said):
        envs.spec(env)
