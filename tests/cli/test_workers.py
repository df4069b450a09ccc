"""Threads at the command line: a run like any other, but for what it cannot promise."""

import csv
import json

import pytest

import jaxrl as library

SIZE = ("CartPole-v1", "--num-envs", 4, "--rollout-length", 4, "--torso.hidden", 8)


def test_a_run_of_workers_is_a_run(jaxrl, tmp_path, short_chunks):
    """Its folder, its evaluation, and what goes on from its last checkpoint."""
    folder = tmp_path / "run"
    done = jaxrl("train", "a3c", *SIZE, "--workers", 2, "--steps", 640, "--eval-episodes", 4, "--out", folder)
    assert done.code == 0 and "cannot be repeated or resumed bit for bit" in done.out
    config = json.loads((folder / "config.json").read_text())
    assert config["workers"] == 2 and config["hyperparameters"]["delay"] == 0
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[-1]["update"] == "40" and {"staleness", "staleness_max"} < set(rows[0]) and "worker" not in rows[0]
    assert len(json.loads((folder / "evaluation.json").read_text())["returns"]) == 1
    _, state = library.load(folder)
    assert int(state.updates) == 40
    again = jaxrl("resume", folder, "--steps", 960, "--eval-episodes", 0)
    assert again.code == 0 and "going on from update 40 of 60" in again.out
    assert int(library.load(folder)[1].updates) == 60


@pytest.mark.parametrize(
    ("recipe", "flags", "message"),
    [
        ("a3c", ("--seeds", 2), "seeds: got 2, must be 1 with workers, which share one state"),
        ("a3c", ("--delay", 4), "--delay: workers have delayed gradients already"),
        ("a2c", ("--sweep", "gamma=0.9,0.99"), "sweep: got one together with workers"),
        ("a2c", ("--normalize-reward",), "the running returns of normalize_reward"),
        ("dqn", ("--learning-starts", 32), "(per_env: a replay"),
    ],
)
def test_what_workers_cannot_do_is_refused_by_name(jaxrl, recipe, flags, message):
    refused = jaxrl("train", recipe, *SIZE, "--workers", 2, *flags)
    assert refused.code == 2 and message in refused.error
