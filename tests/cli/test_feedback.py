"""Learning from a teacher at the command line."""

import csv

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.agents.combinators import RewardedState
from jaxrl.cli import flags
from jaxrl.feedback.verdicts import verdict
from jaxrl.runs import learned_rewards
from jaxrl.runs.building import build
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.loading import restore
from jaxrl.types import Transition

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


@pytest.mark.parametrize("name", ["coach", "tamer"])
def test_signals_of_a_simulated_trainer_are_advantages(name):
    settings = ["--feedback.delay", "2", "--feedback.mistake", "0.25", "--feedback.num-signals", "7"]
    config = flags.parse(["reinforce", "CartPole-v1", "--feedback", name, *settings])[0]
    assert config.parts["feedback"].settings["delay"] == 2 and config.parts["feedback"].settings["corrected"]
    built = build(config)

    def run(key):
        return jaxrl.train(key, built.agent(0), built.env, built.params, num_steps=64, num_envs=4, rollout_length=8)

    state, metrics = jax.eval_shape(run, jax.random.key(0))
    assert "reward_model_signals" in metrics and "value_loss" not in metrics, "the loss is feedback.as_advantage"
    assert state.agent.per_env[1] == () and state.agent.reward_model.trainer.per_env.shape == (2, 4)


def test_the_rule_of_cartpole_praises_pushes_to_the_side_of_the_fall_and_others_the_reward():
    steps = Transition(
        np.array([[0, 0, 0.1, 0], [0, 0, 0.1, -0.4]]), np.array([1, 1]), np.array([3.0, -2.0]), 1, 0, 0, 0
    )
    for environment, verdicts in (("CartPole-v1", [1.0, -1.0]), ("Pendulum-v1", [1.0, -1.0])):
        assert verdict(jaxrl.make(environment)[0])(steps).tolist() == verdicts
    assert verdict(jaxrl.make("CartPole-v1")[0])(steps._replace(action=np.array([0, 0]))).tolist() == [-1.0, 1.0]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["ppo", "CartPole-v1", "--labels", 8], ["--labels", "--feedback preferences"]),
        (["ppo", "CartPole-v1", "--feedback", "preference"], ["unknown feedback 'preference'", "'preferences'"]),
        (["ppo", "CartPole-v1", "--feedback", "preferences", "--teacher", "orakle"], ["--teacher", "orakle"]),
        (["ppo", "CartPole-v1", "--feedback", "rnd", "--teacher", "oracle"], ["--teacher"]),
        (["ppo", "CartPole-v1", "--feedback", "coach"], ["feedback: got coach for ppo", "reinforce, a2c or a3c"]),
        (["reinforce", "CartPole-v1", "--feedback", "tamer", "--feedback.rate", 2], ["feedback.rate: got 2"]),
        (["alphazero", "pgx/tic_tac_toe", "--feedback", "preferences"], ["--feedback"]),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(jaxrl, tmp_path, arguments, parts):
    outcome = jaxrl("train", *arguments, "--out", tmp_path / "run")
    assert outcome.code == 2 and all(part in outcome.error for part in parts), outcome.error
    assert not (tmp_path / "run").exists()
