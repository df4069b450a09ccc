"""Help, lists, and what is said of a wrong name or value: one line, the nearest right one, exit code 2."""

import subprocess
import sys

import pytest

from jaxrl import envs
from jaxrl.agents.presets import LOOP, PRESETS, preset
from jaxrl.cli import flags
from jaxrl.cli import main as cli_main
from jaxrl.runs.recipes import RECIPES, hyperparameters

from .conftest import TINY


def test_help_names_all_commands_and_imports_no_jax():
    code = "import sys; from jaxrl.cli.main import main; assert main(['--help']) == 0; assert 'jax' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert all(f"  {command} " in done.stdout for command in cli_main.COMMANDS)


def test_the_module_runs():
    done = subprocess.run([sys.executable, "-m", "jaxrl", "tarin"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("jaxrl: unknown command 'tarin', did you mean 'train'?")


@pytest.mark.parametrize("command", cli_main.COMMANDS)
def test_every_command_has_help(jaxrl, command):
    outcome = jaxrl(command, "--help")
    assert outcome.code == 0
    assert f"usage: jaxrl {command}" in outcome.out


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_of_a_recipe_needs_no_environment_and_shows_every_hyperparameter(jaxrl, recipe):
    outcome = jaxrl("train", recipe, "--help")
    assert outcome.code == 0
    for name, parameter in hyperparameters(recipe).items():
        assert f"--{name.replace('_', '-')}" in outcome.out
        assert parameter.help.split(";")[0] in outcome.out
    for absent in ("--optimizer", "--loss", "--heads", "--spec", "--num-updates"):
        assert absent not in outcome.out


@pytest.mark.parametrize(("recipe", "environment"), [("ppo", "Pendulum-v1"), ("a2c", "Breakout-MinAtar")])
def test_defaults_are_those_of_the_environment(recipe, environment):
    config, _ = flags.parse([recipe, environment])
    values = preset(recipe, environment)
    assert {name: getattr(config, name) for name in LOOP} == {name: values.pop(name) for name in LOOP}
    defaults = {name: parameter.default for name, parameter in hyperparameters(recipe).items()}
    torso = values.pop("torso", {"name": "conv" if "MinAtar" in environment else "mlp"})
    assert config.hyperparameters == {**defaults, **values}
    assert config.torso.name == torso["name"]


def test_the_sizes_are_those_of_the_chosen_torso(jaxrl):
    assert "--torso.channels" in jaxrl("train", "ppo", "Breakout-MinAtar", "--help").out
    assert "--torso.channels" not in jaxrl("train", "ppo", "Breakout-MinAtar", "--torso", "mlp", "--help").out
    config, _ = flags.parse(
        ["ppo", "Breakout-MinAtar", "--torso=mlp", "--torso.hidden", "3", "4", "--max-grad-norm", "None", "--squash"]
    )
    assert (config.torso.name, config.torso.arguments["hidden"]) == ("mlp", (3, 4))
    assert config.hyperparameters["max_grad_norm"] is None and config.hyperparameters["squash"] is True


def test_list_prints_recipes_environments_and_every_preset(jaxrl):
    outcome = jaxrl("list")
    assert outcome.code == 0
    assert all(name in outcome.out for name in [*RECIPES, *envs.available()])
    for rows in PRESETS.values():
        for row in rows.values():
            for name, value in row.items():
                if name in LOOP:
                    assert f"{value:,}" in outcome.out
                elif not isinstance(value, dict):
                    assert f"{name}={value}" in outcome.out
    assert "environments" not in jaxrl("list", "recipes").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "pppo", "CartPole-v1"], "unknown recipe 'pppo', did you mean 'ppo'?"),
        (["train", "ppo", "CartPole"], "did you mean 'CartPole-v1'?"),
        (["train", "ppo", "CartPole-v1", "--gama", "1"], "--gamma"),
        (["train", "ppo", "CartPole-v1", "--torso", "mpl"], "unknown torso 'mpl', did you mean 'mlp'?"),
        (["train", "ppo", "CartPole-v1", "--torso", "conv"], "Conv needs images"),
        (["train", "ppo", "CartPole-v1", "--torso.hiden", "8"], "--torso.hidden"),
        (["train", "ppo", "CartPole-v1", "--seeds", "two"], "invalid"),
        (["train", "ppo", "CartPole-v1", "--seeds", "0"], "seeds: got 0, must be at least 1"),
        (["train", "ppo", "CartPole-v1", "--steps", "10"], "num_steps: got 10, one update takes"),
        (["train", "ppo", "CartPole-v1", "--gamma", "1.5"], "gamma: got 1.5, must lie in [0, 1]"),
        (["train", "ppo", "CartPole-v1", "--num-minibatches", "7"], "num_minibatches: got 7, which does not divide"),
        (["train", "ppo", "CartPole-v1", "--eval-episodes", "-1"], "--eval-episodes: got -1"),
        (["train", "ppo", "CartPole-v1", "--sweep", "gamma:1"], "--sweep: got 'gamma:1', expected NAME=VALUE"),
        (["train", "ppo", "CartPole-v1", "--sweep", "gama=0.9"], "no hyper-parameter 'gama', did you mean 'gamma'?"),
        (["train", "ppo", "CartPole-v1", "--sweep", "num_epochs=1,2"], "'num_epochs' is not a float"),
        (["train", "ppo", "CartPole-v1", "--sweep", "loss=1,2"], "has no hyper-parameter 'loss'"),
        (["train", "ppo", "CartPole-v1", "--init-from", "nowhere"], "no such folder"),
        (["train", "ppo"], "the environment comes after the recipe"),
        (["train", "--seeds", "8"], "the recipe comes first"),
        (["evaluate", "nowhere"], "nowhere is not a run: there is no such folder"),
        (["evaluate", "nowhere", "--episodes", "0"], "--episodes: got 0"),
        (["evaluate", "nowhere", "--gif", "a.png"], "--gif: got a.png, must end in .gif"),
        (["plot", "nowhere"], "is not a run"),
        (["resume", "nowhere"], "is not a run"),
        (["list", "recipe"], "recipes"),
        (["evalute", "x"], "unknown command 'evalute', did you mean 'evaluate'?"),
    ],
)
def test_a_wrong_word_is_named_in_one_message(jaxrl, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    tiny = TINY if arguments[0] == "train" and "ppo" in arguments and "--num-minibatches" not in arguments else ()
    outcome = jaxrl(*arguments, *tiny)
    assert outcome.code == 2
    assert message in outcome.error + outcome.out
    assert "Traceback" not in outcome.error
    assert not list(tmp_path.iterdir()), "a run that can't be leaves nothing behind"


def test_a_second_interrupt_leaves_at_once(capsys, monkeypatch):
    def interrupted(command, arguments):
        raise KeyboardInterrupt

    codes = []
    monkeypatch.setattr(cli_main, "_dispatch", interrupted)
    monkeypatch.setattr(cli_main.sys, "argv", ["jaxrl", "list"])
    monkeypatch.setattr(cli_main.os, "_exit", codes.append)
    assert cli_main.main() == 130 and codes == [130]
    assert cli_main.main(["list"]) == 130 and codes == [130], "called as a function, it ends nobody's process"
    assert capsys.readouterr().err == "jaxrl: interrupted\n" * 2


def test_a_failure_of_another_kind_is_one_line_too_unless_asked_for_more(jaxrl, monkeypatch):
    def broken(command, arguments):
        raise OSError("the disk is\nfull")

    monkeypatch.setattr(cli_main, "_dispatch", broken)
    outcome = jaxrl("list")
    assert (outcome.code, outcome.error) == (1, "jaxrl: OSError: the disk is full")
    monkeypatch.setenv("JAXRL_DEBUG", "1")
    assert "Traceback" in jaxrl("list").error
