"""Runs that train: what they write, how they go on after Ctrl-C, what stops them."""

import csv
import json
import os
import struct
import subprocess
import sys
import types

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto import event_pb2
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from jaxrl.runs import memory, session
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.loading import load, restore

from .conftest import TINY


def rows_of(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def numbers_of(folder):
    """The text of metrics.csv without what the clock says."""
    return [
        {name: value for name, value in row.items() if name not in ("wall_time", "steps_per_second")}
        for row in rows_of(folder)
    ]


def leaves(state):
    import jax

    keys = [leaf for leaf in jax.tree.leaves(state)]
    return [np.asarray(leaf) for leaf in keys]


def same_state(left, right):
    pairs = zip(leaves(restore(left)[2]), leaves(restore(right)[2]), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def summaries(folder):
    """``(step, value)`` of the event files in a folder."""
    for path in sorted(folder.glob("events*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                yield event.step, value


def scalars(folder):
    """``{tag: {step: value}}`` of the event files in a folder."""
    found = {}
    for step, value in summaries(folder):
        found.setdefault(value.tag, {})[step] = value.simple_value
    return found


def hparams(folder):
    """The hyper-parameters that TensorBoard lists for a series."""
    contents = [
        HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for _, value in summaries(folder)
        if value.metadata.plugin_data.plugin_name == "hparams"
    ]
    (begin,) = [content.session_start_info for content in contents if content.HasField("session_start_info")]
    assert [content.HasField("session_end_info") for content in contents] == [False, False, True]
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in begin.hparams.items()}


def test_a_run_folder_is_complete(trained):
    names = {path.name for path in trained.iterdir()}
    assert names == {
        "config.json",
        "versions.json",
        "metrics.csv",
        "tensorboard",
        "checkpoints",
        "evaluation.json",
        "curve.png",
    }
    config = RunFolder(trained).read_config()
    assert (config.seeds, config.num_envs, config.hyperparameters["num_epochs"]) == (2, 4, 1)
    assert config.parts["torso"].settings["hidden"] == (8,)
    returns = np.array(json.loads((trained / "evaluation.json").read_text())["returns"])
    assert returns.shape == (2, 4)
    with Image.open(trained / "curve.png") as picture:
        assert min(picture.size) > 500 and len(picture.convert("RGB").getcolors(1 << 20)) > 20


def test_metrics_are_of_every_seed_and_chunk(trained):
    rows = rows_of(trained)
    assert len(rows) == 2 * 16
    assert [row["update"] for row in rows[::2]] == [str(2 * chunk) for chunk in range(1, 17)]
    assert rows[-1]["env_steps"] == "2048"
    assert {row["seed"] for row in rows} == {"0", "1"}
    episodes = sum(int(row["episodes"]) for row in rows)
    steps = sum(float(row["episode_length"] or 0) * int(row["episodes"]) for row in rows)
    # All steps but those of the 8 episodes under way at the end.
    assert 2 * 2048 - 8 * 500 < steps <= 2 * 2048
    assert episodes > 20
    assert all(np.isfinite(float(row["loss"])) for row in rows)


def test_events_are_means_over_seeds(trained):
    found, rows = scalars(trained / "tensorboard"), rows_of(trained)
    means = [np.mean([float(row["loss"]) for row in rows if row["update"] == str(update)]) for update in (2, 32)]
    assert found["loss"][128] == pytest.approx(means[0], rel=1e-5)
    assert found["loss"][2048] == pytest.approx(means[1], rel=1e-5)
    assert {"episode_return", "episode_return_min", "episode_return_max"} <= set(found)
    wall, speed = ([found[name][128 * chunk] for chunk in range(1, 17)] for name in ("wall_time", "steps_per_second"))
    assert wall == sorted(wall) and min(speed) > 0
    np.testing.assert_allclose(np.diff(wall), 2 * 128 / np.array(speed[1:]), rtol=1e-2)


def test_hyperparameters_are_in_the_table_of_tensorboard(trained):
    found, config = hparams(trained / "tensorboard"), RunFolder(trained).read_config()
    assert (found["recipe"], found["environment"], found["seeds"], found["torso.hidden"]) == (
        "ppo",
        "CartPole-v1",
        2,
        "(8,)",
    )
    assert found["learning_rate"] == config.hyperparameters["learning_rate"] and found["anneal_clip"] is True
    assert "target_kl" not in found and config.hyperparameters["target_kl"] is None
    assert [path.name for path in (trained / "tensorboard").iterdir() if path.is_dir()] == [], "no run within the run"


def test_seeds_differ_and_the_same_seed_repeats(jaxrl, trained, tmp_path, short_chunks):
    arguments = ["train", "ppo", "CartPole-v1", "--seeds", 2, "--steps", 2048, "--eval-episodes", 0, *TINY]
    assert jaxrl(*arguments, "--out", tmp_path / "again").code == 0
    assert numbers_of(tmp_path / "again") == numbers_of(trained)
    assert same_state(tmp_path / "again", trained)
    assert not (tmp_path / "again" / "evaluation.json").exists()
    returns = [[row["episode_return"] for row in rows_of(trained) if row["seed"] == seed] for seed in "01"]
    assert returns[0] != returns[1]


def test_plain_lines_say_how_it_goes(jaxrl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = jaxrl("train", "ppo", "CartPole-v1", "--seeds", 2, "--steps", 2048, "--eval-episodes", 4, *TINY)
    assert outcome.code == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("ppo-CartPole-v1-2")
    for part in (
        "compiled in",
        "100% 4.10k/4.10k steps",
        "/s",
        "s left",
        " ± ",
        "all 2",
        "greedy",
        f"run: runs/{folder.name}",
    ):
        assert part in outcome.out


def test_a_folder_with_something_in_it_is_refused(jaxrl, trained):
    before = (trained / "config.json").read_text()
    outcome = jaxrl("train", "ppo", "CartPole-v1", "--out", trained)
    assert outcome.code == 2
    assert "is a run already" in outcome.error and f"jaxrl resume {trained}" in outcome.error
    assert (trained / "config.json").read_text() == before


INTERRUPTIBLE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test session in the background ignores it
from jaxrl.cli.main import main
from jaxrl.runs import progress, session
session.MIN_STEPS, session.CHUNKS, progress.LINE_EVERY = 1, 16, 0.0
sys.exit(main(sys.argv[1:]))
"""


def test_interrupted_and_resumed_equals_unbroken(jaxrl, trained, tmp_path, short_chunks):
    folder = tmp_path / "broken"
    arguments = ["train", "ppo", "CartPole-v1", "--seeds", "2", "--steps", "2048", "--eval-episodes", "0", *TINY]
    command = [sys.executable, "-u", "-c", INTERRUPTIBLE, *arguments, "--out", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    # The first chunk has been shown; the second is under way, or waits for this signal.
    while "steps" not in process.stdout.readline():
        assert process.poll() is None, process.stderr.read()
    process.send_signal(2)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert f"go on with: jaxrl resume {folder}" in error
    done = int(np.max(restore(folder)[2].updates))
    assert 0 < done < 32
    assert len(rows_of(folder)) == done
    assert (folder / "curve.png").exists()
    shown = jaxrl("evaluate", folder, "--episodes", 2).out
    assert f"this is update {done} of 32; the run is unfinished; continue it with: jaxrl resume {folder}" in shown
    outcome = jaxrl("resume", folder, "--eval-episodes", 4)
    assert outcome.code == 0, outcome.error
    assert f"going on from update {done} of 32" in outcome.out
    assert numbers_of(folder) == numbers_of(trained)
    assert same_state(folder, trained)
    assert (folder / "evaluation.json").read_text() == (trained / "evaluation.json").read_text()


def test_resume_goes_back_to_a_checkpoint_and_beyond_the_budget(jaxrl, tmp_path, short_chunks, monkeypatch):
    monkeypatch.setattr(session, "CHECKPOINT_SECONDS", 0.0)
    folder = tmp_path / "run"
    arguments = ["train", "ppo", "CartPole-v1", "--steps", 512, "--eval-episodes", 0, *TINY]
    assert jaxrl(*arguments, "--no-anneal-learning-rate", "--out", folder).code == 0
    whole = numbers_of(folder)
    outcome = jaxrl("resume", folder)
    assert outcome.code == 2
    assert (
        f"is finished, with 512 steps of each seed; a larger budget goes on with it: jaxrl resume {folder} --steps"
        in (outcome.error)
    )
    outcome = jaxrl("resume", folder, "--steps", 256)
    assert outcome.code == 2 and "--steps: got 256, must be beyond the 512 that" in outcome.error
    outcome = jaxrl("resume", folder, "--update", 99)
    assert outcome.code == 2 and "update: got 99," in outcome.error and "6, 7, 8" in outcome.error
    (folder / "metrics.csv").open("a").write("9,576,0,0,1")
    outcome = jaxrl("resume", folder, "--update", 7, "--eval-episodes", 0)
    assert outcome.code == 0, outcome.error
    assert numbers_of(folder) == whole
    assert jaxrl("resume", folder, "--steps", 640, "--eval-episodes", 0).code == 0
    assert RunFolder(folder).read_config().num_steps == 640
    assert numbers_of(folder)[: len(whole)] == whole
    assert int(np.max(restore(folder)[2].updates)) == 10
    assert jaxrl("resume", folder, "--update", 3, "--steps", 1280).code == 2


def test_a_sweep_is_one_program_with_a_curve_a_value(jaxrl, tmp_path, short_chunks):
    arguments = ["train", "ppo", "CartPole-v1", "--seeds", 2, "--steps", 1024, "--eval-episodes", 2, *TINY]
    outcome = jaxrl(*arguments, "--sweep", "learning-rate=1e-4,1e-2", "--out", tmp_path / "sweep")
    assert outcome.code == 0, outcome.error
    rows = rows_of(tmp_path / "sweep")
    assert [(row["seed"], float(row["learning_rate"])) for row in rows[:4]] == [
        ("0", 1e-4),
        ("1", 1e-4),
        ("0", 1e-2),
        ("1", 1e-2),
    ]
    # The same keys in the same environments: nothing differs before the first update, all does after it.
    assert rows[0]["loss"] != rows[2]["loss"]
    assert {path.name for path in (tmp_path / "sweep" / "tensorboard").iterdir()} == {
        "learning_rate=0.0001",
        "learning_rate=0.01",
    }
    for path in (tmp_path / "sweep" / "tensorboard").iterdir():
        assert f"learning_rate={hparams(path)['learning_rate']:g}" == path.name
    assert load(tmp_path / "sweep", value=1e-2, seed=1)[1].updates == 16
    # A row for each value, and on request one for each seed of a value.
    table = jaxrl("evaluate", tmp_path / "sweep", "--episodes", 2).out
    assert "learning_rate ┃ mean return" in table and "│ 0.0001 │" in table and "│ 0.01 │" in table
    assert table in outcome.out and "all 2" not in table
    means = np.array(json.loads((tmp_path / "sweep" / "evaluation.json").read_text())["returns"]).mean(1)
    assert f"{means[2:].min():.2f} (seed {means[2:].argmin()})" in table.split("│ 0.01 │")[1]
    picture = ("--gif", tmp_path / "a.gif", "--gif-seed", 1)
    one = jaxrl("evaluate", tmp_path / "sweep", "--episodes", 2, "--value", "0.01", *picture)
    assert one.code == 0 and (tmp_path / "a.gif").exists()
    assert "learning_rate=0.01" in one.out and f"│ 1 │ {means[3]:.2f} │" in one.out and "all 2" in one.out
    for arguments, message in ((picture, ": 0.0001, 0.01"), (("--value", 1), "value: got 1,")):
        outcome = jaxrl("evaluate", tmp_path / "sweep", *arguments)
        assert outcome.code == 2 and message in outcome.error


def test_numbers_that_are_not_finite_stop_the_run(jaxrl, tmp_path, short_chunks):
    folder = tmp_path / "nan"
    arguments = ["train", "ppo", "CartPole-v1", "--seeds", 2, "--steps", 2048, *TINY]
    outcome = jaxrl(*arguments, "--sweep", "learning_rate=1e-3,1e30", "--out", folder)
    assert outcome.code == 1
    assert "in update 1 of seed 0 of learning_rate=1e+30; the last good checkpoint is update 0" in outcome.error
    state = restore(folder)[2]
    assert all(np.isfinite(leaf).all() for leaf in leaves(state) if leaf.dtype.kind == "f")
    assert len(rows_of(folder)) == 4
    advice = "resuming would diverge again: train a new run with a lower --learning-rate or --normalize-reward"
    assert advice in outcome.error and f"--init-from {folder}" in outcome.error
    shown = jaxrl("evaluate", folder, "--episodes", 2).out
    assert "the run diverged: " in shown and "in update 1 of seed 0" in shown and advice in shown
    assert "jaxrl resume" not in shown


def test_a_state_that_is_not_finite_is_never_saved(jaxrl, tmp_path, short_chunks, monkeypatch):
    # Metrics that miss it: the parameters are looked at before they are saved.
    monkeypatch.setattr(session, "first_bad", lambda metrics: None)
    folder = tmp_path / "nan"
    arguments = ["train", "ppo", "CartPole-v1", "--steps", 512, *TINY]
    outcome = jaxrl(*arguments, "--learning-rate", "1e30", "--no-anneal-learning-rate", "--out", folder)
    assert outcome.code == 1
    assert "the state of seed 0 is not finite after update 8; the last good checkpoint is update 0" in outcome.error


def test_start_from_another_run(jaxrl, trained, tmp_path):
    arguments = ["train", "ppo", "CartPole-v1", "--steps", 64, "--eval-episodes", 0, *TINY, "--learning-rate", 0]
    assert jaxrl(*arguments, "--init-from", trained, "--out", tmp_path / "next").code == 0
    import jax

    source, copy = load(trained)[1].params, load(tmp_path / "next")[1].params
    assert jax.tree.all(jax.tree.map(np.array_equal, source, copy))
    assert RunFolder(tmp_path / "next").read_config().init_from == str(trained.resolve())
    outcome = jaxrl(*arguments[:-4], "--torso.hidden", 9, "--init-from", trained, "--out", tmp_path / "misfit")
    assert outcome.code == 2
    assert "is of shape [8] there, and of shape [9] here" in outcome.error
    assert not (tmp_path / "misfit").exists()


def test_dry_run_measures_and_leaves_nothing(jaxrl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory, "PROBE_SECONDS", 0.2)
    arguments = ["train", "ppo", "CartPole-v1", "--seeds", 2, "--steps", 2048, "--dry-run", *TINY]
    outcome = jaxrl(*arguments)
    assert outcome.code == 0
    for part in (
        "members 2 seeds",
        "each)",
        "peak while training",
        "compile time",
        "steps/s",
        "4.10k steps in 32",
    ):
        assert part in outcome.out
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(memory, "available_bytes", lambda devices=1: 1000)
    refused = jaxrl(*arguments)
    assert refused.code == 1
    assert "the state of 2 seeds needs" in refused.error and "1 kB are free; lower one of seeds" in refused.error
    crowd = jaxrl("train", "ppo", "CartPole-v1", "--seeds", 10**9, "--dry-run", *TINY)
    assert crowd.code == 1 and "the state of 1000000000 seeds needs 1" in crowd.error
    monkeypatch.undo()
    started = jaxrl(*arguments, "--init-from", tmp_path / "nowhere")
    assert started.code == 2 and "init_from: " in started.error


def test_a_run_with_a_replay_says_how_much_it_takes(jaxrl, tmp_path):
    arguments = [
        "train",
        "dqn",
        "CartPole-v1",
        "--steps",
        64,
        "--learning-starts",
        32,
        "--replay",
        "prioritized",
        "--torso.hidden",
        8,
    ]
    arguments += ["--eval-episodes", 0, "--out", tmp_path / "run"]
    refused = jaxrl(*arguments, "--replay-capacity", 10**9)
    assert refused.code == 1 and "GB of memory" in refused.error
    assert "lower one of seeds, num_envs, rollout_length, replay_capacity" in refused.error
    outcome = jaxrl(*arguments, "--seeds", 2, "--replay-capacity", 1000)
    assert outcome.code == 0, outcome.error
    state = restore(tmp_path / "run")[2]
    weight = sum(leaf.nbytes for leaf in leaves(state.agent.per_env))
    assert weight > 2 * 1000 * 9 * 4, "a transition is two observations, an action, a reward and the rest"
    assert f"{memory.megabytes(weight)} of it replay" in outcome.out


def test_a_replay_of_the_run_s_size_changes_nothing_but_memory(jaxrl, tmp_path, monkeypatch):
    arguments = ["train", "dqn", "CartPole-v1", "--steps", 1024, "--learning-starts", 128, "--torso.hidden", 8]
    arguments += ["--eval-episodes", 0, "--no-anneal-learning-rate"]
    fitted, asked = tmp_path / "fitted", tmp_path / "asked"
    assert jaxrl(*arguments, "--out", fitted).code == 0
    assert jaxrl(*arguments, "--replay-capacity", 20_000, "--out", asked).code == 0
    assert numbers_of(fitted) == numbers_of(asked)
    sizes = [restore(folder)[2].agent.per_env.transitions.reward.size for folder in (fitted, asked)]
    assert sizes == [1024, 20_000]
    # The configuration holds the size, so that a longer run goes on with it.
    assert jaxrl("resume", fitted, "--steps", 2048, "--eval-episodes", 0).code == 0
    assert RunFolder(fitted).read_config().hyperparameters["replay_capacity"] == 1024
    monkeypatch.setattr(memory, "PROBE_SECONDS", 0.1)
    dry = jaxrl(*arguments, "--dry-run").out
    assert "replay uniform, 1,024 transitions, all of a seed's 1.02k steps" in dry
    dry = jaxrl(*arguments, "--replay-capacity", 256, "--dry-run").out
    assert "256 transitions, the last of a seed's 1.02k steps" in dry


def test_wandb_gets_the_same_curves(jaxrl, tmp_path, monkeypatch):
    logged, finished = [], []
    run = types.SimpleNamespace(
        log=lambda values, step: logged.append((step, values)), finish=lambda: finished.append(True)
    )
    started = {}
    monkeypatch.setitem(
        sys.modules, "wandb", types.SimpleNamespace(init=lambda **kwargs: started.update(kwargs) or run)
    )
    arguments = ["train", "ppo", "CartPole-v1", "--steps", 64, "--eval-episodes", 0, "--wandb", *TINY]
    assert jaxrl(*arguments, "--out", tmp_path / "run").code == 0
    assert started["name"] == "run" and started["config"]["hyperparameters"]["num_epochs"] == 1
    assert logged[-1][0] == 64 and {"loss", "wall_time", "steps_per_second"} <= set(logged[-1][1])
    assert finished == [True]
    monkeypatch.setitem(sys.modules, "wandb", None)
    outcome = jaxrl(*arguments, "--out", tmp_path / "other")
    assert outcome.code == 2 and "pip install 'jaxrl[wandb]'" in outcome.error
    assert not os.path.exists(tmp_path / "other")
