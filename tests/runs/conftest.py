"""A run folder made without the command line."""

import dataclasses

import pytest

from jaxrl.runs.building import build, make_program
from jaxrl.runs.config import Chosen, RunConfig
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.recipes import hyperparameters


def mlp(*hidden):
    return Chosen("mlp", {"hidden": hidden or (8,), "activation": "tanh", "layer_norm": False})


def make_config(**changes):
    recipe = changes.get("recipe", "a2c")
    defaults = {name: parameter.default for name, parameter in hyperparameters(recipe).items()}
    config = RunConfig(
        recipe=recipe,
        environment="CartPole-v1",
        seed=3,
        seeds=2,
        num_steps=640,
        num_envs=2,
        rollout_length=8,
        parts={"torso": mlp()},
        hyperparameters={**defaults, **changes.pop("hyperparameters", {})},
    )
    return dataclasses.replace(config, **changes)


def save_start(path, config):
    """Makes a run folder with a checkpoint of two updates; returns ``(folder, state)``."""
    folder = RunFolder(path)
    folder.create(config)
    program = make_program(config, build(config))
    state, _ = program.advance(program.start(), 2)
    folder.checkpoints(config).save(2, state)
    return folder, state


@pytest.fixture
def config():
    return make_config()


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """``(folder, config, state)`` of a run with two seeds."""
    config = make_config()
    folder, state = save_start(tmp_path_factory.mktemp("runs") / "saved", config)
    return folder, config, state
