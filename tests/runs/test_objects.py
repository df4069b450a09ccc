"""Names ``module:name``: what they give, what is said where they can't, and that a stranger's run never runs code."""

import dataclasses
import json
import sys
import types

import pytest

import jaxrl
from jaxrl.cli.main import COMMANDS, main
from jaxrl.runs import objects
from jaxrl.runs.config import Chosen, ConfigError, RunConfig, Stage
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.objects import Untrusted

from .conftest import make_config

MODULE = """
from pathlib import Path
Path(__file__).with_name("imported").touch()

class Maker:
    def __call__(self, *args, **kwargs):
        Path(__file__).with_name("called").touch()

run = Maker()
"""


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A module on the path that leaves a mark where it is imported, and another where something in it is called."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "stranger_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    yield tmp_path / "code"
    sys.modules.pop("stranger_module", None)


NAME = "stranger_module:run"
STAGE = Stage("a2c", {}, {}, 1, 1, {})
PLACES = {
    "recipe": {"recipe": NAME},
    "environment": {"environment": NAME},
    "suite": {"environment": f"gymnasium/{NAME}"},
    "part": {"parts": {"torso": Chosen(NAME, {})}},
    "other part": {"parts": {"loss": Chosen(NAME, {})}},
    "recipe of a stage": {"stages": (dataclasses.replace(STAGE, recipe=NAME),)},
    "part of a stage": {
        "recipe": "a2c",
        "stages": (dataclasses.replace(STAGE, recipe=NAME, parts={"x": Chosen(NAME, {})}),),
    },
}


def hostile(path, place):
    folder = RunFolder(path)
    path.mkdir()
    folder.write_config(dataclasses.replace(make_config(), **PLACES[place]))
    (path / "checkpoints" / "2").mkdir(parents=True)
    return folder


@pytest.mark.parametrize("place", PLACES)
def test_no_command_imports_what_a_stranger_s_run_names(stranger, tmp_path, place, capsys):
    run = hostile(tmp_path / "run", place).path
    config = str(run / "config.json")
    new = ["--out", str(tmp_path / "new")]
    commands = {
        "evaluate": [str(run)],
        "play": [str(run)],
        "elo": [str(run)],
        "resume": [str(run)],
        "plot": [str(run)],
        "label": [str(run)],
        "list": [str(run)],
        "train": ["--config", config, *new],
    }
    assert set(commands) == set(COMMANDS)
    for command, arguments in commands.items():
        assert main([command, *arguments]) != 0
        said = capsys.readouterr().err
        assert command in ("plot", "list") or ("stranger_module:run" in said and "--trust" in said), (command, said)
    transferred = ["train", "a2c", "CartPole-v1", "--steps", "1k", "--init-from", str(run), *new]
    assert main(transferred) == 2 and "stranger_module:run" in capsys.readouterr().err
    with pytest.raises(Untrusted, match=r"stranger_module:run.*trust=True"):
        jaxrl.load(run)
    with pytest.raises(Untrusted):
        jaxrl.runs.resume(run)
    assert not list(stranger.glob("imported")) and "stranger_module" not in sys.modules


def test_a_builtin_s_function_is_no_recipe_either(stranger, tmp_path, capsys):
    victim = tmp_path / "victim"
    victim.mkdir()
    folder = hostile(tmp_path / "run", "recipe")
    config = dataclasses.replace(make_config(), environment="shutil:rmtree", environment_settings={"path": str(victim)})
    folder.write_config(config)
    for command in ("evaluate", "resume", "play", "elo"):
        assert main([command, str(folder.path)]) == 2
        assert "would import shutil:rmtree" in capsys.readouterr().err
    assert victim.exists()


def test_trust_is_of_a_name_and_the_file_that_it_came_from(stranger, tmp_path, monkeypatch):
    folder = hostile(tmp_path / "run", "environment")
    with pytest.raises(Untrusted):
        folder.read_config()
    assert folder.read_config(trust=True).environment == NAME
    objects.remember([NAME])
    assert folder.read_config().environment == NAME
    assert not (stranger / "imported").exists(), "to be trusted is to be importable, not imported"
    other = tmp_path / "other"
    other.mkdir()
    (other / "stranger_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(other))
    with pytest.raises(Untrusted):
        folder.read_config()


def test_what_cannot_be_imported_is_said(stranger, tmp_path):
    for name, message in (
        ("nowhere_at_all:run", r"environment: 'nowhere_at_all:run' can't be imported \(ModuleNotFoundError"),
        ("stranger_module:rum", "stranger_module has no 'rum', did you mean 'run'"),
        (":MyEnv", "'MyEnv' was given as an object .* give it again"),
    ):
        with pytest.raises(ConfigError, match=message):
            objects.import_object(name, "environment")


def test_names_of_objects(monkeypatch):
    assert objects.name_of(RunConfig) == "jaxrl.runs.config:RunConfig"
    assert objects.name_of(lambda: 0) == ":<lambda>"
    module = types.ModuleType("__main__")
    exec("def mine(): pass", module.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", module)
    assert objects.name_of(module.mine) == ":mine", "the script that runs has another name where it is imported"


def test_a_configuration_is_read_without_an_import(stranger):
    text = dataclasses.replace(make_config(), recipe=NAME, hyperparameters={"anything": 1}).to_json()
    config = RunConfig.from_json(text)
    assert config.imports() == [NAME] and json.loads(config.to_json())["hyperparameters"] == {"anything": 1}
    assert not (stranger / "imported").exists()
