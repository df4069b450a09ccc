"""Names, arguments and the messages for wrong ones."""

import gymnax
import pytest
from gymnax.environments.classic_control.cartpole import CartPole

from jaxrl import envs
from jaxrl.envs import registry


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
    adapter = registry.Adapter(make=lambda name, **kwargs: (name, kwargs), names=lambda: ["chess"])
    with pytest.raises(envs.UnknownEnvironment, match=r"'suite/'.*known prefixes: 'gymnax/'"):
        envs.make("suite/chess")
    monkeypatch.setitem(registry.ADAPTERS, "suite", adapter)
    assert envs.make("suite/chess", size=3) == ("chess", {"size": 3})
    assert "suite/chess" in envs.available()
    with pytest.raises(envs.UnknownEnvironment, match="did you mean 'suite/chess'"):
        envs.make("suite/ches")
    with pytest.raises(envs.UnknownEnvironment, match="known prefixes: 'gymnax/', 'jaxrl/', 'pgx/', 'suite/'"):
        envs.make("other/chess")


def test_available_lists_gymnax_and_no_probes():
    names = envs.available()
    assert len(names) == len(set(names)) >= 26
    assert set(gymnax.registered_envs) <= set(names)
    assert not any("Probe" in name for name in names)


def test_a_failed_download_says_that_it_was_one(monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("gymnax.utils.load_mnist.load_mnist", no_network)
    with pytest.raises(OSError, match=r"MNISTBandit-bsuite.*downloads its data set.*no network"):
        envs.make("MNISTBandit-bsuite")


def test_functions_are_not_hidden_by_modules_of_their_name():
    assert callable(envs.make)
    assert callable(envs.spec)
    assert callable(envs.check)
    assert envs.wrappers.time_limit
    assert envs.probes.PROBES
