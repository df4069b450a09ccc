"""Names, arguments and the messages for wrong ones."""

import gymnasium
import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.classic_control.cartpole import CartPole

from jaxrl import envs
from jaxrl.envs import registry

GYMNAX = list(gymnax.registered_envs)


def test_makes_what_gymnax_makes():
    env, params = envs.make("CartPole-v1")
    assert isinstance(env, CartPole)
    assert params == gymnax.make("CartPole-v1")[1]
    assert isinstance(envs.make("gymnax/CartPole-v1")[0], CartPole)


def test_an_argument_that_is_a_field_of_params_replaces_it():
    _, params = envs.make("CartPole-v1", max_steps_in_episode=200, gravity=1.0)
    assert params == gymnax.make("CartPole-v1")[1].replace(max_steps_in_episode=200, gravity=1.0)


def test_an_argument_of_the_constructor_goes_there_and_params_follow():
    env, params = envs.make("DeepSea-bsuite", size=5)
    assert env.size == 5
    assert params.max_steps_in_episode == 5
    env, params = envs.make("DeepSea-bsuite", size=5, max_steps_in_episode=3)
    assert (env.size, params.max_steps_in_episode) == (5, 3)


def test_a_wrong_argument_is_named_with_what_is_allowed():
    with pytest.raises(envs.UnknownArgument, match=r"max_step.*did you mean 'max_steps_in_episode'") as error:
        envs.make("DeepSea-bsuite", max_step=3)
    for allowed in ("deterministic", "size", "action_mapping_key"):
        assert allowed in str(error.value)


@pytest.mark.parametrize("name", [*sorted(set(GYMNAX) - envs.registry.DOWNLOADS), *registry.OURS, "pgx/tic_tac_toe"])
def test_settings_are_what_make_takes(name):
    listed = envs.settings(name)
    assert listed["max_steps_in_episode"] >= 1
    # Given back as they are, the defaults change nothing.
    plain, params = envs.make(name)
    same, same_params = envs.make(name, **listed)
    assert type(same) is type(plain)
    for field in type(params).__dict__.get("_fields", ()) or params.__dataclass_fields__:
        assert np.array_equal(getattr(params, field), getattr(same_params, field)), field


def test_settings_have_the_defaults_of_params_and_of_the_constructor():
    assert envs.settings("BitFlipping-40") == {"max_steps_in_episode": 40, "num_bits": 40}
    assert envs.settings("PointReach") == {"max_steps_in_episode": 50, "push": 0.03, "friction": 0.2, "radius": 0.05}
    assert envs.settings("MemoryChain-bsuite") == {"max_steps_in_episode": 1000, "memory_length": 5, "num_bits": 1}
    with pytest.raises(envs.UnknownEnvironment, match="did you mean 'PointReach'"):
        envs.settings("PointReech")


@pytest.mark.parametrize(
    ("name", "given", "error", "said"),
    [
        ("CartPole-v1", {"max_steps_in_episode": "200"}, TypeError, "max_steps_in_episode: got '200'"),
        ("CartPole-v1", {"max_steps_in_episode": 200.5}, TypeError, "max_steps_in_episode: got 200.5"),
        ("CartPole-v1", {"max_steps_in_episode": True}, TypeError, "max_steps_in_episode: got True"),
        ("CartPole-v1", {"max_steps_in_episode": None}, TypeError, "max_steps_in_episode: got None"),
        ("CartPole-v1", {"max_steps_in_episode": 0}, ValueError, "max_steps_in_episode: got 0, must be at least 1"),
        ("BitFlipping", {"max_steps_in_episode": -3}, ValueError, "max_steps_in_episode: got -3"),
        ("CartPole-v1", {"gravity": "low"}, TypeError, "gravity: got 'low'"),
        ("CartPole-v1", {"gravity": 1j}, TypeError, "gravity: got 1j"),
        ("Asterix-MinAtar", {"ramping": 1}, TypeError, "ramping: got 1, must be True or False"),
        ("Asterix-MinAtar", {"use_minimal_action_set": "no"}, TypeError, "use_minimal_action_set: got 'no'"),
        ("Catch-bsuite", {"rows": 3.5}, TypeError, "rows: got 3.5"),
        ("FrozenLake-misc", {"map_name": 8}, TypeError, "map_name: got 8"),
        ("FrozenLake-misc", {"reward_schedule": 1.0}, TypeError, "reward_schedule: got 1.0"),
        ("Acrobot-v1", {"available_torque": 2.0}, TypeError, "available_torque: got 2.0"),
        ("PointReach", {"radius": -1.0}, ValueError, "radius: got -1.0"),
    ],
)
def test_a_setting_of_the_wrong_type_is_named(name, given, error, said):
    with pytest.raises(error, match=rf"^{name}: .*{said}"):
        envs.make(name, **given)


def test_settings_may_be_arrays_and_tracers_and_integers_become_floats():
    gravity = envs.make("CartPole-v1", gravity=10)[1].gravity
    assert isinstance(gravity, float) and gravity == 10.0
    many = envs.make("CartPole-v1", gravity=jnp.arange(3.0))[1].gravity
    assert many.shape == (3,)
    traced = jax.jit(lambda x: envs.make("CartPole-v1", masscart=x)[1].masscart * 2)(jnp.float32(3.0))
    assert traced == 6.0
    assert envs.make("FrozenLake-misc", map_name=None, desc=["SF", "FG"])[0].n_states == 4


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("cartpole", "CartPole-v1"),
        ("CartPole-v0", "CartPole-v1"),
        ("gymnax/breakout", "Breakout-MinAtar"),
        ("Acrobat-v1", "Acrobot-v1"),
    ],
)
def test_an_unknown_name_comes_with_the_nearest_right_one(wrong, right):
    with pytest.raises(envs.UnknownEnvironment, match=rf"did you mean .*'{right}'") as error:
        envs.make(wrong)
    assert isinstance(error.value, ValueError)
    assert wrong in str(error.value)


def test_a_name_like_no_other_gets_no_suggestion():
    with pytest.raises(envs.UnknownEnvironment, match="available") as error:
        envs.make("zzzzzz")
    assert "did you mean" not in str(error.value)


def test_an_unknown_prefix_names_the_known_ones(monkeypatch):
    adapter = registry.Adapter(
        make=lambda name, **kwargs: (name, kwargs),
        names=lambda: ["chess"],
        arguments=lambda name: {"size": registry.Argument(8, optional=False)},
    )
    with pytest.raises(envs.UnknownEnvironment, match=r"'suite/'.*must be one of 'gymnax/'"):
        envs.make("suite/chess")
    monkeypatch.setitem(registry.ADAPTERS, "suite", adapter)
    assert envs.make("suite/chess", size=3) == ("chess", {"size": 3})
    assert "suite/chess" in envs.available()
    with pytest.raises(envs.UnknownEnvironment, match="did you mean 'suite/chess'"):
        envs.make("suite/ches")
    with pytest.raises(envs.UnknownEnvironment, match="must be one of 'gymnax/', .*'pgx/', .*'suite/'"):
        envs.make("other/chess")


def test_available_lists_gymnax_and_no_probes():
    names = envs.available()
    assert len(names) == len(set(names)) >= 26
    assert set(gymnax.registered_envs) <= set(names)
    assert not any("Probe" in name for name in names)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (gymnasium.make("CartPole-v1"), r"Gymnasium environment \(CartPole-v1\).*jaxrl.make\('CartPole-v1'\)"),
        (CartPole(), "name: got CartPole, must be a string"),
        (CartPole, "name: .*got the class CartPole"),
        (3, "name: got int, must be a string"),
    ],
    ids=["gymnasium", "gymnax", "class", "int"],
)
def test_make_takes_a_name_alone(given, said):
    with pytest.raises(TypeError, match=said):
        envs.make(given)


def test_a_failed_download_says_that_it_was_one(monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("gymnax.utils.load_mnist.load_mnist", no_network)
    with pytest.raises(OSError, match=r"MNISTBandit-bsuite.*no network"):
        envs.make("MNISTBandit-bsuite")


def test_functions_are_not_hidden_by_modules_of_their_name():
    assert callable(envs.make)
    assert callable(envs.spec)
    assert callable(envs.check)
    assert envs.wrappers.time_limit
    assert envs.probes.PROBES
