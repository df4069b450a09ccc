"""Stages of a run: collect, then fit what was collected without a step, then go on; wherever it is cut."""

import csv
import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

import jaxrl
from jaxrl import runs
from jaxrl.cli.main import main
from jaxrl.runs import python, starting
from jaxrl.runs import session as sessions
from jaxrl.runs.building import fit_replay
from jaxrl.runs.config import ConfigError, Stage
from jaxrl.runs.errors import InterruptedRun
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.loading import restore

from .conftest import make_config

ALL = {"params": "params", "target_params": "target_params", "per_env": "per_env", "steps": "steps"}


def staged():
    """Three stages of dqn: 4 updates that fill the replay (64 steps), 6 that learn from it alone, 4 that do both."""
    config = make_config(
        recipe="dqn",
        num_steps=64,
        seeds=2,
        parts={},
        hyperparameters={"replay_capacity": 128, "batch_size": 4, "learning_starts": 0, "learning_rate": 1e-2},
    )
    idle = {**config.hyperparameters, "learning_rate": 0.0}
    stages = (
        Stage("dqn", {}, idle, 4, 8, ALL),
        Stage("dqn", {}, config.hyperparameters, 6, 0, ALL),
    )
    return dataclasses.replace(config, stages=stages, eval_episodes=2)


def console():
    return python._console(True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return starting.start(RunFolder(tmp_path_factory.mktemp("stages") / "whole"), staged(), console=console())


def same(left, right):
    return jax.tree.all(jax.tree.map(lambda x, y: np.array_equal(*map(_data, (x, y))), left, right))


def _data(x):
    return jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def params_at(run, update):
    return jaxrl.load(run.folder.path, update=update)[1].params


def rows_of(folder):
    with folder.metrics_file.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["member"] == "0"]


def test_a_stage_without_steps_learns_and_steps_nothing(whole):
    rows = rows_of(whole.folder)
    assert [int(row["update"]) for row in rows][-1] == 14
    steps = {int(row["update"]): int(row["env_steps"]) for row in rows}
    assert (steps[4], steps[10], steps[14]) == (64, 64, 128), "the second stage takes no step"
    assert whole.folder.checkpoints(whole.config).updates() == [4, 10, 14]
    assert not same(params_at(whole, 4), params_at(whole, 10)), "it learns from what the first one collected"
    middle = restore(whole.folder.path, 10)[2].agent
    assert np.asarray(middle.steps).tolist() == [64, 64] and np.asarray(middle.gradient_steps).tolist() == [6, 6]
    replays = [restore(whole.folder.path, update)[2].agent.per_env for update in (4, 10)]
    assert same(*replays), "and adds nothing to it"


def test_every_pause_has_a_step_of_its_own_in_tensorboard(whole):
    """By updates, since the second stage takes no environment steps."""
    steps = set()
    for path in whole.folder.tensorboard.glob("events*"):
        data = path.read_bytes()
        while data:
            length = int.from_bytes(data[:8], "little")
            event, data = event_pb2.Event.FromString(data[12 : 12 + length]), data[16 + length :]
            steps |= {event.step for value in event.summary.value if value.tag == "loss"}
    assert {int(row["update"]) for row in rows_of(whole.folder) if row["loss"]} == steps and len(steps) > 6


def test_a_run_is_resumed_in_the_middle_of_a_stage_without_steps(whole, tmp_path, monkeypatch):
    """Interrupted after each chunk: every stop is in another place of the stages, and the end is the unbroken one's."""
    monkeypatch.setattr(sessions, "updates_per_chunk", lambda config, num_updates: 3)
    real, stops = sessions.fit, []

    def fit(program, **arguments):
        class Cut(Exception):
            pass

        def on_chunk(chunk):
            arguments["on_chunk"](chunk)
            raise Cut(chunk.state)

        try:
            return real(program, **{**arguments, "on_chunk": on_chunk})
        except Cut as cut:
            (state,) = cut.args
            if int(np.max(state.updates)) == arguments["num_updates"]:
                return state, {}
            raise sessions.Interrupted(state, {}) from None

    monkeypatch.setattr(sessions, "fit", fit)
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(InterruptedRun, match="saved at update 3 of 14"):
        starting.start(folder, staged(), console=console())
    while True:
        stops.append(max(folder.checkpoints(staged()).updates()))
        try:
            run = runs.resume(folder.path, quiet=True)
            break
        except InterruptedRun:
            pass
    assert stops == [3, 7, 13] and same(run.state.agent, whole.state.agent)
    assert [(row["update"], row["env_steps"]) for row in rows_of(folder)][-1] == ("14", "128")


def test_an_unfinished_run_is_judged_by_the_stage_that_it_is_in(whole, tmp_path, capsys):
    config = whole.config
    assert [config.stage_at(update) for update in (0, 4, 5, 10, 11, 14)] == [0, 0, 1, 1, 2, 2]
    assert [config.steps_at(update) for update in (0, 3, 4, 9, 10, 12, 14)] == [0, 48, 64, 64, 64, 96, 128]
    assert config.num_updates == 14
    path = str(whole.folder.path)
    # Of the middle of the run: its own agent, and how much of the whole is left.
    assert main(["evaluate", path, "--update", "10", "--episodes", "2"]) == 0
    assert "this is update" not in capsys.readouterr().out, "the run is finished"
    unfinished = tmp_path / "unfinished"
    _copy_until(whole.folder.path, unfinished, 10)
    assert main(["evaluate", str(unfinished), "--episodes", "2"]) == 0
    assert "this is update 10 of 14, in stage 2 of 3 (dqn); the run is unfinished" in " ".join(
        capsys.readouterr().out.split()
    )
    config, _, state = restore(unfinished)
    assert (config.rollout_length, int(state.updates.max())) == (0, 6)
    agent, own = jaxrl.load(unfinished)
    assert int(own.gradient_steps) == 6 and agent.act(jax.random.key(0), own, np.zeros((1, 4), np.float32))[0].shape
    assert main(["plot", str(unfinished), "--out", str(tmp_path / "a.png")]) == 0


def _copy_until(source, target, update):
    """A copy of a run that has come to this update."""
    shutil.copytree(source, target)
    folder = RunFolder(target)
    folder.checkpoints(folder.read_config()).rewind(update)


def test_stages_come_through_the_command_line(whole, tmp_path, capsys):
    config = json.loads(whole.folder.config_file.read_text())
    file = tmp_path / "staged.json"
    file.write_text(json.dumps(config))
    assert main(["train", "--config", str(file), "--seeds", "1", "--out", str(tmp_path / "run")]) == 0
    written = RunFolder(tmp_path / "run").read_config()
    assert written.stages == whole.config.stages and (written.seeds, written.num_steps) == (1, 64)
    assert RunFolder(tmp_path / "run").checkpoints(written).updates() == [4, 10, 14]
    config["stages"][1]["hand_over"] = {"params": "prams"}
    file.write_text(json.dumps(config))
    assert main(["train", "--config", str(file), "--out", str(tmp_path / "wrong")]) == 2
    assert "hand_over: " in (error := capsys.readouterr().err) and "'prams'" in error


def test_the_last_stage_steps(tmp_path):
    with pytest.raises(ConfigError, match="rollout_length: got 0"):
        starting.start(RunFolder(tmp_path / "run"), dataclasses.replace(staged(), rollout_length=0), console=console())


def test_what_is_handed_over_is_checked_before_training(tmp_path):
    stages = staged().stages
    for hand_over, message in (
        ({"params": "parms"}, "has no 'parms'"),
        ({"prams": "params"}, "has no 'prams'"),
        ({"steps": "gradient_steps", "params": "steps"}, "steps does not fit into params"),
    ):
        config = dataclasses.replace(staged(), stages=(stages[0], dataclasses.replace(stages[1], hand_over=hand_over)))
        with pytest.raises(ConfigError, match=f"hand_over: .*{message}"):
            starting.start(RunFolder(tmp_path / "run"), config, console=console())
    assert not (tmp_path / "run").exists(), "nothing was trained"


def test_a_replay_holds_what_earlier_stages_put_into_it():
    config = dataclasses.replace(staged(), num_steps=64)
    assert fit_replay(config).hyperparameters["replay_capacity"] == 128
    alone = dataclasses.replace(config, stages=())
    assert fit_replay(alone).hyperparameters["replay_capacity"] == 64
