"""Memory at the command line: a torso that remembers, and a window for one that does not."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxrl.cli.flags import parse
from jaxrl.runs.building import build
from jaxrl.runs.config import RunConfig
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.loading import load, restore
from jaxrl.types import Observation, Remembered


def test_a_gru_is_trained_evaluated_resumed_and_loaded(jaxrl, tmp_path):
    """The environment feeds its memory back without a word; the run that goes on equals the one at once."""
    arguments = ["train", "ppo", "TMaze-2", "--torso", "gru", "--torso.size", 4, "--share-torso", "--num-epochs", 1]
    arguments += [
        "--num-envs",
        4,
        "--rollout-length",
        6,
        "--eval-episodes",
        0,
        "--window",
        2,
        "--no-anneal-learning-rate",
    ]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder, steps in ((whole, 96), (cut, 48)):
        assert jaxrl(*arguments, "--steps", steps, "--out", folder).code == 0
    chosen = RunFolder(whole).read_config().parts["torso"]
    assert (chosen.name, chosen.settings) == ("gru", {"size": 4, "horizon": 100})
    assert jaxrl("resume", cut, "--steps", 96, "--eval-episodes", 0).code == 0
    states = [restore(folder)[2] for folder in (whole, cut)]
    assert states[0].observation.memory.actor.shape == (1, 4, 4)
    for one, other in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(one, other)
    assert "all 1" not in jaxrl("evaluate", whole, "--episodes", 4).error
    agent, state = load(whole)
    memory = jax.tree.map(lambda x: np.zeros((3, 4), np.float32), states[0].observation.memory)
    action, _ = agent.act(jax.random.key(0), state, Observation(np.zeros((3, 2, 4), np.float32), memory=memory))
    assert isinstance(action, Remembered) and action.value.shape == (3,)


def config_of(*arguments):
    return parse([str(argument) for argument in arguments])[0]


def test_a_window_is_part_of_the_configuration():
    config = config_of("dqn", "MemoryChain-4", "--window", 5, "--torso", "transformer", "--torso.width", 4)
    assert config.window == 5 and config.parts["torso"].settings["window"]
    assert build(config).spec.observation.shape == (5, 4)
    assert RunConfig.from_json(config.to_json()) == config
    assert dataclasses.replace(config, window=4).identity() != config.identity()
    plain = config_of("dqn", "MemoryChain-4", "--torso", "transformer")
    assert plain.window is None and not plain.parts["torso"].settings["window"]
    # A file from before there were windows.
    older = {name: value for name, value in json.loads(plain.to_json()).items() if name != "window"}
    assert RunConfig.from_json(json.dumps(older)) == plain and "window" not in plain.identity()
    assert config_of("ppo", "Breakout-MinAtar").parts["torso"].name == "conv"
    assert config_of("ppo", "Breakout-MinAtar", "--window", 3).parts["torso"].name == "mlp", "of rows"


@pytest.mark.parametrize(
    ("arguments", "memories"),
    [(("a2c",), 2), (("trpo",), 2), (("ppo", "--share-torso"), 1), (("reinforce", "--no-baseline"), 1)],
)
def test_the_memory_fed_back_is_what_the_recipe_remembers(arguments, memories):
    recipe, *rest = arguments
    built = build(config_of(recipe, "MemoryChain-4", "--torso", "gru", *rest))
    assert len(jax.tree.leaves(built.spec.observation.memory)) == memories


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dqn", "--torso", "gru"), "torso: got GRU, which has a memory; this recipe"),
        (("ppo", "--window", 0), "window: got 0, must be at least 1"),
        (("ppo", "--torso", "gru", "--torso.size", 0), "torso.size: got 0, sizes must be at least 1"),
        (("ppo", "--torso", "gru", "--num-envs", 6), "num_minibatches: got 4, must divide num_envs = 6"),
    ],
)
def test_what_cannot_be_is_refused(jaxrl, tmp_path, arguments, message):
    recipe, *rest = arguments
    outcome = jaxrl("train", recipe, "MemoryChain-4", *rest, "--out", tmp_path / "run")
    assert outcome.code != 0 and message in outcome.error
    assert not (tmp_path / "run").exists()
