"""Learning from a teacher at the command line."""

import csv

import jax
import numpy as np
import pytest

from jaxrl.agents.combinators import RewardedState
from jaxrl.runs import learned_rewards
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.loading import restore

SESSIONS = ["--feedback", "preferences", "--teacher", "mistake", "--labels", 8, "--feedback.queries", 4]
SESSIONS += ["--feedback.query-interval", 128, "--feedback.segment-length", 5, "--feedback.num-gradient-steps", 10]
SMALL = ["--num-envs", 4, "--rollout-length", 16, "--torso.hidden", 8, "--eval-episodes", 0]


def test_a_run_learns_from_a_teacher_is_resumed_exactly_and_shows_what_it_learned(jaxrl, tmp_path, short_chunks):
    arguments = ["train", "ppo", "CartPole-v1", *SESSIONS, *SMALL, "--num-epochs", 1]
    arguments += ["--no-anneal-learning-rate", "--no-anneal-clip"]  # over the whole budget, which differs
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder, steps in ((whole, 512), (cut, 192)):  # cut between the first session and the second
        outcome = jaxrl(*arguments, "--steps", steps, "--out", folder)
        assert outcome.code == 0, outcome.error
    chosen = RunFolder(whole).read_config().parts["feedback"]
    assert (chosen.name, chosen.settings["teacher"], chosen.settings["labels"]) == ("preferences", "mistake", 8)
    assert jaxrl("resume", cut, "--steps", 512, "--eval-episodes", 0).code == 0
    states = [restore(folder)[2].agent for folder in (whole, cut)]
    assert isinstance(states[0], RewardedState) and states[0].reward_model.comparisons.asked.tolist() == [8]
    for one, other in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(one, other)
    with RunFolder(whole).metrics_file.open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["reward_model_labels"]) == 8 and 0 <= float(rows[-1]["reward_model_held_out_accuracy"]) <= 1
    assert float(rows[0]["learned_reward"]) == 0 != float(rows[-1]["learned_reward"])
    shown = learned_rewards.read(RunFolder(whole), 1)
    assert shown.labels.values[0, -1] == 8 and shown.reward.values.shape == shown.labels.values.shape
    assert learned_rewards.read(RunFolder(whole), 2) is None and RunFolder(whole).curve_file.is_file()


def test_a_recipe_with_a_replay_pays_old_transitions_anew(jaxrl, tmp_path):
    arguments = ["train", "dqn", "CartPole-v1", *SESSIONS, *SMALL, "--steps", 256, "--learning-starts", 64]
    outcome = jaxrl(*arguments, "--replay-capacity", 256, "--batch-size", 4, "--out", tmp_path / "run")
    assert outcome.code == 0, outcome.error
    assert "note: labels is 8, but the teacher is asked 4 times" in jaxrl(*arguments, "--steps", 128, "--dry-run").out
    state = restore(tmp_path / "run")[2].agent
    assert not isinstance(state, RewardedState) and state.reward_model.comparisons.asked.tolist() == [8]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["ppo", "CartPole-v1", "--labels", 8], ["--labels", "--feedback preferences"]),
        (["ppo", "CartPole-v1", "--feedback", "preference"], ["unknown feedback 'preference'", "'preferences'"]),
        (["ppo", "CartPole-v1", "--feedback", "preferences", "--teacher", "orakle"], ["--teacher", "orakle"]),
        (["ppo", "CartPole-v1", "--feedback", "rnd", "--teacher", "oracle"], ["--teacher"]),
        (["alphazero", "pgx/tic_tac_toe", "--feedback", "preferences"], ["--feedback"]),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(jaxrl, tmp_path, arguments, parts):
    outcome = jaxrl("train", *arguments, "--out", tmp_path / "run")
    assert outcome.code == 2 and all(part in outcome.error for part in parts), outcome.error
    assert not (tmp_path / "run").exists()
