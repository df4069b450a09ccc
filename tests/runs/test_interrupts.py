"""SIGTERM at the moments of a run that could take long: evaluations, checkpoints, curves; and how chunks are cut."""

import csv
import dataclasses
import os
import signal
import threading
import time

import jax
import matplotlib.pyplot
import numpy as np
import pytest

from jaxrl import runs
from jaxrl.agents.presets import PRESETS, preset
from jaxrl.runs import curves, kinds
from jaxrl.runs import session as sessions
from jaxrl.runs.errors import InterruptedRun
from jaxrl.runs.recipes import RECIPES
from jaxrl.training.checkpoint import Checkpoints
from jaxrl.training.host import CALL_UPDATES

from .conftest import make_config, mlp

SIZE = {"num_steps": 256, "num_envs": 4, "rollout_length": 16, "quiet": True, "torso": "mlp"}
SOON = 15.0
"""Seconds on a busy machine; each test would wait a minute for what it interrupts."""


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)


def test_an_evaluation_is_given_up_and_the_run_goes_on_later(tmp_path, monkeypatch):
    task, began, over = kinds.KINDS["task"], [], threading.Event()

    def evaluator(built, num_episodes, explore):
        def play(states, seed):
            began.append(time.monotonic())
            threading.Timer(0.2, terminate).start()
            over.wait()

        return play

    monkeypatch.setattr(kinds, "KINDS", {"task": task._replace(evaluator=evaluator)})
    with pytest.raises(InterruptedRun, match="saved at update 2 of 4"):
        runs.train(tmp_path / "run", "a2c", "CartPole-v1", eval_every=128, eval_episodes=2, **SIZE)
    assert time.monotonic() - began[0] < SOON
    over.set()
    monkeypatch.setattr(kinds, "KINDS", {"task": task})
    run = runs.resume(tmp_path / "run", quiet=True)
    with run.folder.metrics_file.open(newline="") as file:
        evaluated = {row["update"]: bool(row["evaluation_return"]) for row in csv.DictReader(file)}
    assert evaluated["2"] and evaluated["4"], "the evaluation that was given up is made when the run goes on"


@pytest.mark.parametrize(("at", "message"), [(0, "saved at update 0 of 4"), (4, "all 4 updates are done and saved")])
def test_a_checkpoint_is_written_whole_however_often_it_is_told_to_stop(tmp_path, monkeypatch, at, message):
    save = Checkpoints.save

    def interrupted(self, update, state):
        if update == at and self.directory.name == "checkpoints":
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
        save(self, update, state)

    monkeypatch.setattr(Checkpoints, "save", interrupted)
    with pytest.raises(InterruptedRun, match=message):
        runs.train(tmp_path / "run", "a2c", "CartPole-v1", eval_episodes=2, **SIZE)
    folder = runs.RunFolder(tmp_path / "run")
    assert folder.checkpoints(folder.read_config()).readable()[-1] == at
    assert not folder.evaluation_file.exists() and not folder.lock_file.exists()


def test_an_update_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    over, ready = threading.Event(), jax.block_until_ready

    def busy(outputs):
        if threading.current_thread() is not threading.main_thread():
            threading.Timer(0.2, terminate).start()
            over.wait(60.0)
        return ready(outputs)

    monkeypatch.setattr(sessions, "PATIENCE_SECONDS", 0.3)
    with monkeypatch.context() as patch, pytest.raises(InterruptedRun, match="given up; .* update 0 of 4; go on with"):
        patch.setattr(jax, "block_until_ready", busy)
        runs.train(tmp_path / "run", "a2c", "CartPole-v1", eval_episodes=0, **SIZE)
    assert not over.is_set()
    over.set()
    run = runs.resume(tmp_path / "run", quiet=True)
    assert run.folder.checkpoints(run.folder.read_config()).readable()[-1] == 4


def test_a_curve_that_takes_too_long_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sessions, "CURVE_SECONDS", 0.2)
    monkeypatch.setattr(sessions, "draw_curve", lambda folder: time.sleep(60))
    monkeypatch.setattr(sessions, "first_bad", lambda metrics: terminate())
    begin = time.monotonic()
    with pytest.raises(InterruptedRun):
        runs.train(tmp_path / "run", "a2c", "CartPole-v1", **{**SIZE, "num_steps": 6400, "quiet": False})
    assert "no curve, since it takes too long; jaxrl plot" in capsys.readouterr().out
    assert time.monotonic() - begin < 60


def test_a_long_run_is_drawn_by_as_many_points_as_one_sees(tmp_path):
    steps, seeds = np.arange(100_000.0), np.arange(200_000.0).reshape(2, -1)
    few, values = curves.thinned(steps, seeds)
    assert len(few) == curves.MOST_POINTS and values.shape == (2, curves.MOST_POINTS)
    assert (few[0], few[-1], values[1, -1]) == (0, 99_999, 199_999) and np.array_equal(values[0], few)
    assert curves.thinned(steps[:50], seeds[:, :50])[0].size == 50


def test_a_picture_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = runs.RunFolder(tmp_path / "run")
    folder.create(make_config(seeds=1))
    folder.metrics_file.write_text("update,env_steps,member,seed,episode_return\n1,16,0,0,3\n2,32,0,0,4\n")
    folder.curve_file.write_bytes(b"before")

    def torn(self, path, **options):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(matplotlib.figure.Figure, "savefig", torn)
        with pytest.raises(KeyboardInterrupt):
            curves.draw([folder], folder.curve_file)
    assert folder.curve_file.read_bytes() == b"before"
    curves.draw([folder], folder.curve_file)
    assert folder.curve_file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("recipe", RECIPES)
def test_calls_of_every_recipe_are_bounded_at_any_budget(recipe):
    """A call holds at most ``CALL_UPDATES`` updates, and where a recipe gets slower a call of one update begins."""
    for environment in PRESETS.get(recipe, ()):
        loop = {name: preset(recipe, environment)[name] for name in ("num_envs", "rollout_length")}
        config = make_config(recipe=recipe, parts={"torso": mlp()}, num_steps=50 * 10**9, **loop)
        updates = config.num_updates
        assert sessions.updates_per_call(config, updates) <= CALL_UPDATES < updates
        assert config.num_envs * config.rollout_length <= 65_536, "a call can't be shorter than an update"
        slower = dataclasses.replace(config, hyperparameters={**config.hyperparameters, "learning_starts": 10**6})
        per_update = config.num_envs * config.rollout_length
        assert 0 <= sessions.learning_starts(slower) * per_update - 10**6 < per_update
