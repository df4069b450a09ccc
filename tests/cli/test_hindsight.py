"""Hindsight at the command line, and the successes of goal environments."""

import csv
import json

import jax
import numpy as np

from jaxrl.runs.folder import RunFolder
from jaxrl.runs.loading import restore


def test_hindsight_goes_into_a_run_by_name_and_is_resumed(jaxrl, tmp_path):
    """Where goals are; the run that goes on equals the one at once, its episodes and their places included."""
    arguments = ["train", "td3", "PointReach", "--replay", "hindsight", "--replay.strategy", "episode", "--replay.k", 2]
    arguments += ["--learning-starts", 32, "--batch-size", 4, "--num-envs", 4, "--rollout-length", 4]
    arguments += ["--torso.hidden", 8, "--eval-episodes", 0, "--replay-capacity", 256]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder, steps in ((whole, 512), (cut, 256)):
        assert jaxrl(*arguments, "--steps", steps, "--out", folder).code == 0
    chosen = RunFolder(whole).read_config().parts["replay"]
    assert (chosen.name, chosen.settings["strategy"], chosen.settings["k"]) == ("hindsight", "episode", 2)
    assert jaxrl("resume", cut, "--steps", 512, "--eval-episodes", 0).code == 0
    states = [restore(folder)[2].agent for folder in (whole, cut)]
    assert states[0].per_env.coming.step.shape[-1] == 4
    for one, other in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(one, other)
    with RunFolder(whole).metrics_file.open() as file:
        rows = [row for row in csv.DictReader(file) if row["episodes"] != "0"]
    assert rows and all(0.0 <= float(row["episode_success"]) <= 1.0 for row in rows)


def test_success_is_a_column_of_training_and_of_evaluation(jaxrl, tmp_path):
    """In BitFlipping, where each step short of the goal pays -1 and the last one 0."""
    arguments = ["train", "reinforce", "BitFlipping-2", "--num-envs", 2, "--rollout-length", 8, "--steps", 64]
    outcome = jaxrl(
        *arguments, "--torso.hidden", 4, "--eval-episodes", 32, "--eval-every", 32, "--out", tmp_path / "run"
    )
    folder = RunFolder(tmp_path / "run")
    evaluation = json.loads(folder.evaluation_file.read_text())
    returns, success = np.array(evaluation["returns"]), np.array(evaluation["success"])
    assert success.shape == (1, 32) and set(returns[success]) <= {0.0, -1.0} and set(returns[~success]) <= {-2.0}
    assert 0 < success.mean() < 1 and f"{100 * success.mean():.2f}" in outcome.out and "success %" in outcome.out
    with folder.metrics_file.open() as file:
        last = list(csv.DictReader(file))[-1]
    assert 0.0 <= float(last["evaluation_success"]) <= 1.0
