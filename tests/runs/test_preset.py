"""``jaxrl.preset``: the defaults of the command line in code."""

import pytest

import jaxrl
from jaxrl.cli import flags
from jaxrl.envs import UnknownEnvironment
from jaxrl.runs.recipes import UnknownName


def test_a_preset_is_what_the_command_line_uses():
    settings = jaxrl.preset("ppo", "CartPole-v1")
    config = flags.parse(["ppo", "CartPole-v1"])[0]
    assert (settings["num_steps"], settings["learning_rate"], settings["gae_lambda"]) == (200_000, 1e-3, 0.8)
    loop = {name: settings.pop(name) for name in ("num_steps", "num_envs", "rollout_length")}
    assert loop == {name: getattr(config, name) for name in loop}
    assert settings.items() <= config.hyperparameters.items()
    env, params = jaxrl.make("CartPole-v1")
    jaxrl.ppo(jaxrl.spec(env, params), num_updates=781, **settings)
    assert jaxrl.preset("ppo", "CartPole-v1")["num_envs"] == 8, "every call gives a new dict"


def test_parts_are_plain_and_sizes_are_part_of_a_name():
    assert jaxrl.preset("ppo", "TMaze-20")["torso"] == {"name": "gru", "size": 32}
    assert jaxrl.preset("ppo", "my_package:make_env") == jaxrl.preset("ppo", "Catch-bsuite")


@pytest.mark.parametrize(
    ("recipe", "environment", "error", "hint"),
    [("pppo", "CartPole-v1", UnknownName, "ppo"), ("ppo", "CartPole", UnknownEnvironment, "CartPole-v1")],
)
def test_a_wrong_name_is_refused(recipe, environment, error, hint):
    with pytest.raises(error, match=f"did you mean '{hint}'"):
        jaxrl.preset(recipe, environment)
