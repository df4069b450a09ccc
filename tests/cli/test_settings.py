"""Where settings come from: --config FILE with flags on top, --env.NAME, and the settings of a grid by --value."""

import dataclasses
import json

import pytest
import yaml

from jaxrl.cli import flags
from jaxrl.cli.errors import UsageError
from jaxrl.cli.parsing import swept_value
from jaxrl.runs.config import Sweep
from jaxrl.runs.folder import RunFolder

from .conftest import TINY


def parse(*arguments):
    return flags.parse([str(argument) for argument in arguments])[0]


@pytest.fixture
def yaml_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "recipe": "ppo",
                "environment": "CartPole-v1",
                "num_steps": 4096,
                "seeds": 3,
                "eval_every": 1024,
                "hyperparameters": {"gamma": 0.9, "num_epochs": 2},
                "parts": {"torso": {"name": "mlp", "settings": {"hidden": [8, 4]}}},
                "environment_settings": {"max_steps_in_episode": 50},
                "sweep": {"learning_rate": [1e-3, 1e-4]},
            }
        )
    )
    return path


def test_a_file_gives_the_defaults_and_flags_change_them(yaml_file):
    config = parse("--config", yaml_file)
    assert (config.recipe, config.environment) == ("ppo", "CartPole-v1")
    assert (config.num_steps, config.seeds, config.eval_every) == (4096, 3, 1024)
    assert config.hyperparameters["gamma"] == 0.9 and config.hyperparameters["num_epochs"] == 2
    assert config.parts["torso"].settings["hidden"] == (8, 4)
    assert config.environment_settings == {"max_steps_in_episode": 50}
    assert config.sweep == Sweep.grid({"learning_rate": (1e-3, 1e-4)})
    preset = parse("ppo", "CartPole-v1")
    assert config.num_envs == preset.num_envs, "what the file leaves out is the preset's"
    changed = parse("--config", yaml_file, "--seeds", 1, "--gamma", 0.5, "--steps", "8k", "--sweep", "gae_lambda=0.9,1")
    assert (changed.seeds, changed.num_steps, changed.hyperparameters["gamma"]) == (1, 8000, 0.5)
    assert changed.sweep == Sweep.grid({"gae_lambda": (0.9, 1.0)}) and changed.hyperparameters["num_epochs"] == 2
    other = parse("ppo", "Acrobot-v1", "--config", yaml_file, "--env.max-steps-in-episode", 70)
    assert other.environment == "Acrobot-v1" and other.environment_settings == {"max_steps_in_episode": 70}


def test_numbers_of_yaml_are_those_of_python(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("num_steps: 1e6\nhyperparameters: {learning_rate: 1e-3, gamma: .9, num_epochs: 2}\nseed: 7\n")
    config = parse("ppo", "CartPole-v1", "--config", path)
    assert (config.num_steps, config.seed) == (1_000_000, 7) and isinstance(config.num_steps, int)
    given = [config.hyperparameters[name] for name in ("learning_rate", "gamma", "num_epochs")]
    assert given == [1e-3, 0.9, 2]


def test_the_configuration_of_a_run_gives_the_same_run(trained, tmp_path):
    """All fields but those that are the folder's own: where chunks end, what kind it is."""
    before = RunFolder(trained).read_config()
    again = parse("--config", trained / "config.json")
    assert again == dataclasses.replace(before, chunks=(), kind=None)


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        ({"sedes": 3}, ("ppo", "CartPole-v1"), "unknown field 'sedes', did you mean 'seeds'"),
        ({"recipe": "dqn"}, ("ppo", "CartPole-v1"), "dqn"),
        ({"hyperparameters": {"gama": 1}}, ("ppo", "CartPole-v1"), "got 'gama'"),
        ({"stages": 3}, ("ppo", "CartPole-v1"), "field 'stages' must be tuple[Stage, ...], got 3"),
        ({"stages": [3]}, ("ppo", "CartPole-v1"), "got 3 in the place of"),
        ({"num_steps": "many"}, ("ppo", "CartPole-v1"), "field 'num_steps' must be int, got 'many'"),
        ({"recipe": "shutil:rmtree"}, ("CartPole-v1",), "shutil:rmtree"),
        ([1], ("ppo", "CartPole-v1"), "got a list"),
        (None, ("ppo", "CartPole-v1"), "can't be read"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_field(jaxrl, tmp_path, content, arguments, message):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(json.dumps(content))
    lead = () if isinstance(content, dict) and content.get("recipe") == "shutil:rmtree" else arguments
    refused = jaxrl("train", *lead, "--config", path, "--out", tmp_path / "run")
    assert refused.code == 2 and message in refused.error and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("parts: {torso: {settings: {}}}", "torso"),
        ("parts: {torso: {name: 3}}", "torso"),
        ("parts: {torzo: {name: mlp}}", "torzo"),
        ("parts: {torso: {name: mlp, setings: {hidden: [4]}}}", "setings"),
        ("parts: {torso: {name: mlp, settings: [64]}}", "settings"),
        ("parts: {torso: {name: mlp, settings: {hiden: [4]}}}", "hiden"),
        ("parts: {torso: {name: mlp, settings: {hidden: 64}}}", "torso.hidden"),
        ("sweep: {gamma: 0.9}", "gamma"),
        ("sweep: {gamma: [high]}", "gamma"),
        ("sweep: {name: gamma, values: 3}", "gamma"),
        ("sweep: {values: [1, 2]}", "names"),
        ("sweep: {names: gamma, values: [[0.9]]}", "names"),
        ("sweep: {names: [gamma, gae_lambda], values: [[0.9]]}", "values"),
    ],
)
def test_parts_and_sweeps_of_a_file_are_checked_by_name(tmp_path, text, named):
    path = tmp_path / "a.yaml"
    path.write_text(text + "\n")
    with pytest.raises(UsageError, match=rf"{path}.*{named}"):
        parse("ppo", "CartPole-v1", "--config", path)


def test_settings_of_an_environment_are_flags(jaxrl, tmp_path):
    config = parse("ppo", "CartPole-v1", "--env.max-steps-in-episode", "2e2", "--env.gravity=9.5")
    assert config.environment_settings == {"max_steps_in_episode": 200, "gravity": 9.5}
    assert parse("ppo", "CartPole-v1", "--env.max_steps_in_episode", 7).environment_settings == {
        "max_steps_in_episode": 7
    }
    assert parse("ppo", "CartPole-v1").environment_settings == {}
    for arguments, message in (
        (("--env.max-steps-in-episode", "2.5"), "--env.max-steps-in-episode: got '2.5', must be an integer"),
        (("--env.gravty", "9"), "--env.gravty"),
    ):
        with pytest.raises(UsageError, match=message):
            parse("ppo", "CartPole-v1", *arguments)
    folder = tmp_path / "run"
    short = ("--env.max-steps-in-episode", 5, "--steps", 64, "--eval-episodes", 3)
    assert jaxrl("train", "ppo", "CartPole-v1", *TINY, *short, "--out", folder).code == 0
    returns = json.loads((folder / "evaluation.json").read_text())["returns"]
    assert returns == [[5.0, 5.0, 5.0]], "no pole falls in five steps, and all episodes end there"


def test_a_setting_of_a_grid_is_chosen_by_its_numbers_or_by_name():
    assert swept_value(()) is None
    assert swept_value(("1e-3", "0.99")) == swept_value(("1e-3,0.99",)) == (1e-3, 0.99)
    assert swept_value(("learning-rate=1e-3", "gamma=0.9")) == {"learning_rate": 1e-3, "gamma": 0.9}
    for words in (("gamma=x",), ("0.9", "gamma=0.9"), ("high",)):
        with pytest.raises(UsageError, match="--value: got '"):
            swept_value(words)


def test_the_members_of_a_grid_are_evaluated_by_setting(jaxrl, tmp_path):
    grid = ("--sweep", "learning_rate=1e-4,1e-2", "--sweep", "gamma=0.9,0.99")
    folder = tmp_path / "grid"
    assert (
        jaxrl("train", "ppo", "CartPole-v1", *TINY, *grid, "--steps", 128, "--eval-episodes", 2, "--out", folder).code
        == 0
    )
    means = [sum(row) / 2 for row in json.loads((folder / "evaluation.json").read_text())["returns"]]
    for value, number in ((("1e-2", "0.9"), 2), (("gamma=0.99", "learning_rate=0.0001"), 1)):
        one = jaxrl("evaluate", folder, "--episodes", 2, "--value", *value)
        assert one.code == 0 and f"│ 0 │ {means[number]:.2f} │" in one.out, one.error
    for value, message in (
        (("0.9",), "must be 2 numbers (learning_rate, gamma)"),
        (("gamma=0.9",), "fits several of them"),
        (("1", "1"), "has the settings learning_rate=0.0001 gamma=0.9; learning_rate=0.0001 gamma=0.99;"),
    ):
        refused = jaxrl("evaluate", folder, "--value", *value)
        assert refused.code == 2 and message in refused.error
