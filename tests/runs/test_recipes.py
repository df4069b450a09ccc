"""What can be set of a recipe is read from its signature, and the presets set nothing else."""

import fnmatch
import inspect

import pytest

from jaxrl import agents, envs
from jaxrl.agents.presets import FALLBACK, LOOP, PRESETS, preset
from jaxrl.runs.building import is_sweepable
from jaxrl.runs.parts import PARTS, settings_of
from jaxrl.runs.recipes import RECIPES, SHORTHANDS, UnknownName, filled_in, hyperparameters, lookup, summary

ROWS = [(recipe, environment) for recipe, rows in PRESETS.items() for environment in rows]


def test_every_recipe_of_the_library_is_there():
    assert set(RECIPES) == set(agents.__all__)


@pytest.mark.parametrize("recipe", RECIPES)
def test_flags_are_the_plain_arguments_with_their_help(recipe):
    parameters = hyperparameters(recipe)
    objects = {
        "spec",
        "heads",
        "loss",
        "model",
        "optimizer",
        "reward",
        "reward_model",
        "target_fn",
        "terminal_value",
        "termination",
        *filled_in(RECIPES[recipe]),
        *PARTS,
        *SHORTHANDS,
    }
    if recipe == "world_models":  # its model is a choice of two names
        objects.remove("model")
    assert set(parameters) == set(inspect.signature(RECIPES[recipe]).parameters) - objects
    assert all(parameter.help for parameter in parameters.values())
    assert summary(recipe).endswith(".")


def test_recipes_with_a_replay_take_a_reward_model_except_those_with_a_model():
    """docs/recipes.md, rnd: what a search or a model found by the rewards of its time can't be paid anew."""
    arguments = {name: set(inspect.signature(recipe).parameters) for name, recipe in RECIPES.items()}
    with_replay = {name for name, taken in arguments.items() if taken & {"replay", "replay_capacity"}}
    rewarded = {name for name, taken in arguments.items() if "reward_model" in taken}
    assert (
        rewarded
        and rewarded < with_replay
        and with_replay - rewarded == {*("alphazero", "mbpo", "mbve", "muzero", "steve", "world_models")}
    )


def test_help_says_the_ranges_that_are_checked():
    shown = {name: parameter.help for name, parameter in hyperparameters("ppo").items()}
    for name, end in {"gamma": "In [0, 1].", "max_grad_norm": "In (0, inf).", "num_epochs": "At least 1."}.items():
        assert shown[name].endswith(f". {end}")
    assert not any(end in shown["entropy_coef"] for end in ("In ", "At least"))
    assert hyperparameters("rainbow")["v_min"].help and hyperparameters("c51")["num_atoms"].help.endswith("At least 2.")


def own(spec, *, model: str = "small", symmetries: int = 0, name: str = "x", prioritized: bool = False, num_updates=3):
    """A recipe whose arguments are called as something else elsewhere."""


def test_what_a_run_fills_in_is_hidden_where_it_does_so_alone():
    assert set(hyperparameters(own)) == {"model", "symmetries", "name", "prioritized"}
    assert set(filled_in(RECIPES["alphazero"])) >= {"model", "symmetries"}
    assert not {"model", "symmetries"} & set(hyperparameters("alphazero"))
    assert "prioritized" not in hyperparameters("dqn")


def test_floats_may_be_swept_and_nothing_else():
    swept = {name for name, parameter in hyperparameters("ppo").items() if is_sweepable(parameter)}
    assert {"learning_rate", "gamma", "target_kl", "max_grad_norm"} <= swept
    assert not swept & {"num_epochs", "num_minibatches", "squash", "normalize_reward"}


def test_unknown_names_come_with_the_nearest():
    with pytest.raises(UnknownName, match=r"unknown recipe 'PP0', did you mean 'ppo'\? \(there are: a2c, "):
        lookup("recipe", "PP0", RECIPES)


@pytest.mark.parametrize(("recipe", "environment"), ROWS)
def test_presets_name_arguments_and_environments_that_exist(recipe, environment):
    values = preset(recipe, environment)
    parts = {part: dict(values.pop(part)) for part in PARTS if part in values}
    if "*" not in environment:
        assert environment.removesuffix("-N") in envs.available()
    assert set(values) <= {*LOOP, *hyperparameters(recipe)}
    for part, chosen in parts.items():
        assert set(chosen) - {"name"} <= set(settings_of(part, chosen["name"]))
    samples = values["num_envs"] * values["rollout_length"]
    assert samples % values.get("num_minibatches", 1) == 0
    assert values["num_steps"] >= samples


@pytest.mark.parametrize(("recipe", "environment"), ROWS)
def test_presets_repeat_no_default(recipe, environment):
    general, parameters = FALLBACK[recipe], hyperparameters(recipe)
    for name, value in PRESETS[recipe][environment].items():
        if name in parameters and name not in general:
            assert value != parameters[name].default, f"{name}={value} is the default of {recipe}"


def test_presets_are_copies():
    preset("ppo", "CartPole-v1")["num_envs"] = -1
    assert preset("ppo", "CartPole-v1")["num_envs"] > 0
    assert set(LOOP) <= set(preset("no_such_recipe", "no_such_environment"))


def test_rows_of_presets_may_be_patterns():
    assert preset("dqn", "ale/space_invaders") == preset("dqn", "ale/pong") != preset("dqn", "Catch-bsuite")
    assert preset("dqn", "ale/pong")["replay"] == {"name": "frames"}
    assert preset("ppo", "envpool/BipedalWalker-v3") == preset("ppo", "gymnasium/BipedalWalker-v3")
    assert preset("ppo", "envpool/BipedalWalker-v3")["gamma"] == 0.999
    reach, push, slide = (preset("sac", f"envpool/Fetch{task}-v4") for task in ("Reach", "Push", "Slide"))
    assert [row["num_gradient_steps"] for row in (push, slide)] == [8, 2], "the first pattern that matches"
    assert reach["num_steps"] == 20_000 and "num_gradient_steps" not in reach


@pytest.mark.parametrize(("suite", "package"), [("gymnasium", "gymnasium_robotics"), ("ale", "ale_py")])
def test_patterns_of_presets_match_names_of_a_suite(suite, package):
    pytest.importorskip(package)
    names = [name.replace(f"{suite}/", "*/") for name in envs.available(suite)]
    patterns = [name for row in PRESETS.values() for name in row if "*" in name]
    patterns = [name for name in patterns if name.startswith("ale/") == (suite == "ale")]
    assert patterns and all(fnmatch.filter(names, name.replace(f"{suite}/", "*/")) for name in patterns)
