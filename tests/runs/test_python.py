"""Runs from Python: custom objects, what is written down of them, stages."""

import csv
import dataclasses
import json
import re

import flax.linen as nn
import jax
import numpy as np
import pytest
from gymnax.environments.classic_control.cartpole import CartPole

import jaxrl
from jaxrl import runs
from jaxrl.runs import python, sanity, starting
from jaxrl.runs.building import build
from jaxrl.runs.config import ConfigError, RunConfig, Stage
from jaxrl.runs.folder import RunError

from .conftest import make_config

SIZE = {"num_steps": 1024, "num_envs": 4, "rollout_length": 16, "eval_episodes": 2, "quiet": True}


@pytest.fixture(autouse=True)
def _state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def rows_of(run):
    with run.folder.metrics_file.open(newline="") as file:
        return list(csv.DictReader(file))


class Tall(nn.Module):
    """A torso that no table has."""

    size: int = 4
    activation: object = nn.relu

    @nn.compact
    def __call__(self, x):
        return self.activation(nn.Dense(self.size)(x))


def pole(limit: int = 30):
    env = CartPole()
    return env, dataclasses.replace(env.default_params, max_steps_in_episode=limit)


def recipe(spec, *, gamma: float = 0.9, learning_rate: float = 1e-3):
    """A recipe of this file."""
    return jaxrl.a2c(spec, gamma=gamma, learning_rate=learning_rate, torso=Tall())


def test_custom_objects_make_a_whole_run(tmp_path):
    run = runs.train(
        tmp_path / "run", recipe, pole, environment_settings={"limit": 20}, seeds=2, eval_every=512, gamma=0.95, **SIZE
    )
    names = {path.name for path in run.folder.path.iterdir()}
    assert names == {
        "config.json",
        "versions.json",
        "metrics.csv",
        "tensorboard",
        "checkpoints",
        "evaluation.json",
        "curve.png",
    }
    assert (run.config.recipe, run.config.environment) == (f"{__name__}:recipe", f"{__name__}:pole")
    assert run.config.hyperparameters == {"gamma": 0.95, "learning_rate": 1e-3}
    agent, state = jaxrl.load(run.folder.path, seed=1)
    action, _ = agent.act(jax.random.key(0), state, np.zeros((3, 4), np.float32), explore=False)
    assert action.shape == (3,) and run.built.params.max_steps_in_episode == 20
    rows = rows_of(run)
    evaluated = {row["env_steps"] for row in rows if row["evaluation_return"]}
    assert evaluated == {"512", "1024"}
    assert all(1 <= float(row["evaluation_return"]) <= 20 for row in rows if row["evaluation_return"])
    longer = runs.resume(run.folder.path, num_steps=2048, quiet=True)
    assert int(longer.state.updates.max()) == 32
    wall = [float(row["wall_time"]) for row in rows_of(longer) if row["member"] == "0"]
    assert wall == sorted(wall)
    versions = json.loads(run.folder.versions_file.read_text())
    assert versions["command"] and re.fullmatch(r"[0-9a-f]{40}(-dirty)?", versions["git_commit"])


def test_what_has_no_name_is_given_again(tmp_path):
    env = CartPole()
    torso = Tall(8, activation=lambda x: x)
    run = runs.train(tmp_path / "run", "a2c", env, torso=torso, **SIZE)
    assert run.config.environment == ":CartPole" and run.config.parts["torso"].name == ":Tall"
    with pytest.raises(ConfigError, match="environment: 'CartPole' was given as an object"):
        jaxrl.load(run.folder.path)
    _, state = jaxrl.load(run.folder.path, environment=env, torso=torso)
    assert int(state.updates) == 16
    with pytest.raises(RunError, match="finished"):
        runs.resume(run.folder.path, environment=env, torso=torso, quiet=True)
    named = runs.train(tmp_path / "named", "a2c", "CartPole-v1", torso=Tall(8), **SIZE)
    assert (named.config.parts["torso"].name, named.config.parts["torso"].settings) == (f"{__name__}:Tall", {"size": 8})
    assert jaxrl.load(named.folder.path)[1].params is not None
    agent = jaxrl.a2c(jaxrl.spec(*jaxrl.make("CartPole-v1")))
    assert runs.train(tmp_path / "agent", agent, "CartPole-v1", **SIZE).config.recipe == ":agent_itself"


def test_wrong_arguments_are_refused_by_name(tmp_path):
    for options, message in (
        ({"lr": 1.0}, "lr: is no option of a2c, did you mean 'learning_rate'"),
        ({"num_steps": 8}, "num_steps: got 8, must be at least"),
        ({"eval_every": 4096}, "eval_every: got 4096, but the run has 1024 steps"),
        ({"environment_settings": {"gravty": 1}}, "gravty.*did you mean 'gravity'"),
        ({"sweep": {"gama": (0.9,)}}, "'gama' is no hyper-parameter of a2c, did you mean 'gamma'"),
    ):
        with pytest.raises(ConfigError, match=message):
            runs.train(tmp_path / "run", "a2c", "CartPole-v1", **{**SIZE, **options})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dqn", {"learning_starts": 100_000}, "learning_starts: got 100000, but the run has 1024 steps"),
        ("dqn", {"learning_starts": 512, "replay_capacity": 256}, "learning_starts: got 512, but the replay holds 256"),
        ("a3c", {"delay": 16}, "delay: got 16, but the run has 16 updates"),
        ("a2c", {"eval_every": 512, "eval_episodes": 0}, "eval_every: got 512, but --eval-episodes is 0"),
        ("a2c", {"eval_episodes": -1}, "eval_episodes: got -1, must be at least 0"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused_before_training(tmp_path, name, options, message):
    with pytest.raises(ConfigError, match=message):
        runs.train(tmp_path / "run", name, "CartPole-v1", **{**SIZE, **options})
    assert not (tmp_path / "run").exists()


def test_probable_mistakes_are_sentences_with_names_and_values():
    config = make_config(recipe="dqn", parts={}, num_steps=1024, window=600)
    changes = {"batch_size": 4096, "target_interval": 10**6, "learning_starts": 64}
    config = dataclasses.replace(config, hyperparameters={**config.hyperparameters, **changes})
    said = " ".join(sanity.probable_mistakes(config, build(config)))
    for part in ("batch_size is 4096", "target_interval is 1000000", "never updated", "window is 600"):
        assert part in said
    fine = dataclasses.replace(config, window=None, num_steps=10**6)
    fine = dataclasses.replace(fine, hyperparameters={**fine.hyperparameters, "batch_size": 32, "target_interval": 100})
    assert list(sanity.probable_mistakes(fine, build(fine))) == []


def staged(tmp_path):
    """Two rates of A2C after each other, the parameters handed over, with an update between them that steps nothing."""
    config = make_config(num_steps=64)
    fast = {**config.hyperparameters, "learning_rate": 0.05}
    stages = (Stage("a2c", config.parts, fast, 4, 8, {"params": "params"}),)
    return dataclasses.replace(config, stages=stages, eval_episodes=2)


def test_stages_follow_each_other_and_resume(tmp_path):
    config = staged(tmp_path)
    assert RunConfig.from_json(config.to_json()) == config
    given = {"console": python._console(True)}
    whole = starting.start(runs.RunFolder(tmp_path / "whole"), config, **given)
    assert int(whole.state.updates.max()) == 4 and whole.folder.checkpoints(config).updates() == [0, 4, 8]
    rows = rows_of(whole)
    assert [row["update"] for row in rows if row["member"] == "0"] == [str(update) for update in range(1, 9)]
    assert rows[-1]["env_steps"] == "128"
    # At the end of the first stage the parameters are those that the second one starts from: here it never learns.
    still = dataclasses.replace(config, hyperparameters={**config.hyperparameters, "learning_rate": 0.0})
    kept = starting.start(runs.RunFolder(tmp_path / "still"), still, **given)
    first, last = (jaxrl.load(kept.folder.path, update=update)[1].params for update in (4, 8))
    assert jax.tree.all(jax.tree.map(np.array_equal, first, last))
    start = jaxrl.load(kept.folder.path, update=0)[1].params
    assert not jax.tree.all(jax.tree.map(np.array_equal, start, first))
    # From a checkpoint on the border the second stage starts again, as it did.
    again = runs.resume(whole.folder.path, update=4, quiet=True)
    assert jax.tree.all(jax.tree.map(np.array_equal, again.state.agent.params, whole.state.agent.params))


def test_a_hand_over_that_does_not_fit_is_named(tmp_path):
    config = staged(tmp_path)
    for hand_over, message in (
        ({"params": "parms"}, "has no 'parms'"),
        ({"params": "optimizer_state"}, "optimizer_state does not fit into params"),
    ):
        stages = (dataclasses.replace(config.stages[0], hand_over=hand_over),)
        with pytest.raises(ConfigError, match=f"hand_over: .*{message}"):
            starting.start(
                runs.RunFolder(tmp_path / message[-6:].strip("'")),
                dataclasses.replace(config, stages=stages),
                console=python._console(True),
            )
