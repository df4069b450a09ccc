"""Damaged run folders and odd values: refused in one sentence that names them, and nothing is lost."""

import json
import resource
import shutil

import jax
import numpy as np
import pytest

from jaxrl import runs
from jaxrl.cli import flags
from jaxrl.cli.errors import UsageError
from jaxrl.cli.parsing import whole_number
from jaxrl.runs import session, starting
from jaxrl.runs.config import ConfigError
from jaxrl.runs.errors import NotWritten, RunStopped
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.metrics import read_curves
from jaxrl.types import Agent

from .conftest import TINY

PPO = ("train", "ppo", "CartPole-v1", *TINY, "--steps", "128")


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of a finished run."""
    return shutil.copytree(trained, tmp_path / "copy")


@pytest.mark.parametrize("command", ["resume", "evaluate", "plot", "play", "elo"])
@pytest.mark.parametrize("content", [b"\xff\xfe\x00\x80", b"", b"[1]", b'{"format_version": 99}'])
def test_a_configuration_that_can_not_be_read_is_named(jaxrl, tmp_path, command, content):
    (tmp_path / "config.json").write_bytes(content)
    refused = jaxrl(command, tmp_path)
    assert refused.code == 2 and refused.error.startswith(f"jaxrl: {tmp_path / 'config.json'}")


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00\x80\n", b"update,env_steps,member,seed,episode_return\n1,1,0,0,x\n"]
)
def test_metrics_that_can_not_be_read_are_named(jaxrl, copy, content):
    (copy / "metrics.csv").write_bytes(content)
    refused = jaxrl("plot", copy)
    assert refused.code == 2 and f"{copy / 'metrics.csv'} can't be read" in refused.error


def test_a_picture_that_can_not_be_written_is_named(jaxrl, trained, tmp_path):
    (tmp_path / "file").write_text("")
    refused = jaxrl("plot", trained, "--out", tmp_path / "file" / "curve.png")
    assert refused.code == 1 and f"{tmp_path / 'file' / 'curve.png'} can't be written (" in refused.error
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, kept[1]))
    try:
        refused = jaxrl("plot", trained, "--out", tmp_path / "curve.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    assert refused.code == 1 and f"{tmp_path / 'curve.png'} can't be written (File too large)" in refused.error
    assert not (tmp_path / "curve.png").exists()


def test_an_evaluation_that_can_not_be_written_leaves_the_old_one(copy):
    folder, before = RunFolder(copy), (copy / "evaluation.json").read_bytes()
    (copy / "evaluation.tmp").mkdir()  # so that nothing can be written there
    with pytest.raises(NotWritten, match=r"evaluation.json can't be written \(.*make room"):
        folder.write_evaluation(np.ones((1, 2)), explore=False, num_steps=1)
    assert (copy / "evaluation.json").read_bytes() == before


def test_a_run_in_a_read_only_folder_is_not_resumed(jaxrl, copy):
    (copy / "lock").mkdir()  # the lock can't be written, for a superuser either
    refused = jaxrl("resume", copy, "--steps", 4096)
    assert refused.code == 2 and f"{copy} can't be written to (" in refused.error and "copy it" in refused.error


@pytest.mark.parametrize("is_file", [False, True])
def test_a_run_whose_checkpoints_are_gone_keeps_its_metrics(jaxrl, copy, is_file):
    before = (copy / "metrics.csv").read_bytes()
    shutil.rmtree(copy / "checkpoints")
    if is_file:
        (copy / "checkpoints").write_text("")
    refused = jaxrl("resume", copy, "--steps", 4096)
    assert refused.code == 2 and str(copy) in refused.error and "checkpoint" in refused.error
    assert (copy / "metrics.csv").read_bytes() == before


def test_a_run_to_start_from_is_looked_at_before_anything_is_made(jaxrl, copy, tmp_path, monkeypatch):
    monkeypatch.setattr(starting, "make_phases", lambda *args: pytest.fail("made before the run was looked at"))
    shutil.rmtree(copy / "checkpoints")
    for source, problem in ((tmp_path / "nowhere", "is not a run"), (copy, "has no checkpoint")):
        refused = jaxrl(*PPO, "--init-from", source, "--out", tmp_path / "run")
        assert refused.code == 2 and f"init_from: {source} {problem}" in refused.error


@pytest.mark.parametrize(
    "text", ["1e400", "-1e400", "9223372036854775808", "1e99999999999", "nan", "inf", "1.5", "100kk", ""]
)
def test_integers_that_are_none_or_too_large_are_refused(text):
    with pytest.raises(ValueError, match="^got '.*', must be an integer"):
        whole_number(text)


def parsed(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    return flags.parse(["dqn", "CartPole-v1", "--config", str(path)])[0]


def test_whole_floats_of_a_file_are_integers_where_integers_are_taken(tmp_path):
    given = (
        "hyperparameters: {batch_size: 256.0, replay_capacity: 10k, learning_rate: 3e-4, gamma: 1.0, max_grad_norm: 1}"
    )
    config = parsed(
        tmp_path,
        f"{given}\nparts: {{torso: {{name: mlp, settings: {{hidden: [8.0, 1e1]}}}}}}\nwindow: 2.0\nnum_steps: 100k\n",
    )
    values = config.hyperparameters
    integers = [
        values["batch_size"],
        values["replay_capacity"],
        *config.parts["torso"].settings["hidden"],
        config.window,
        config.num_steps,
    ]
    assert integers == [256, 10_000, 8, 10, 2, 100_000] and {type(value) for value in integers} == {int}
    assert isinstance(values["gamma"], float) and values["learning_rate"] == 3e-4


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("hyperparameters: {batch_size: 1.5}", "batch_size: got 1.5"),
        ("hyperparameters: {batch_size: 10kk}", "batch_size: got '10kk'"),
        ("hyperparameters: {max_grad_norm: none}", "max_grad_norm: got 'none', must be a number or None"),
        ("hyperparameters: {gamma: true}", "gamma: got True"),
        ("hyperparameters: {1: 2}", "got '1'"),
        ("parts: {torso: {name: mlp, settings: {hidden: [8.5]}}}", r"torso.hidden\[0\]: got 8.5"),
    ],
)
def test_values_of_a_file_are_checked_by_type(tmp_path, text, named):
    with pytest.raises(UsageError, match=f"--config: .*a.yaml: {named}"):
        parsed(tmp_path, text)


def test_a_run_can_not_be_too_large_to_count(jaxrl, tmp_path):
    with pytest.raises(ConfigError, match=f"seeds: got {10**400}, must be at most"):
        runs.train(tmp_path / "run", "ppo", "CartPole-v1", quiet=True, seeds=10**400)
    refused = jaxrl(*PPO, "--env.gravity", "nan", "--out", tmp_path / "run")
    assert refused.code == 2 and "gravity: got nan" in refused.error


def sometimes(spec, *, learning_rate: float = 0.1):
    """A recipe whose fit is due in every second update."""

    def update(key, state, trajectory):
        fit = jax.numpy.where(state % 2 == 1, 1.0, jax.numpy.nan)
        return state + 1, {"fit": fit, "paid": trajectory.reward.mean()}

    act = lambda key, state, observation, *, explore=True: (jax.numpy.zeros(observation.shape[0], "int32"), ())  # noqa: E731
    return Agent(lambda key, num_envs=1: jax.numpy.zeros((), "int32"), act, update)


class Unpaid:
    """CartPole whose rewards are NaN from the third step on."""

    def __new__(cls):
        from gymnax.environments.classic_control.cartpole import CartPole

        class Broken(CartPole):
            def step_env(self, key, state, action, params):
                observation, state, reward, *rest = super().step_env(key, state, action, params)
                return observation, state, jax.numpy.where(state.time > 2, jax.numpy.nan, reward), *rest

        return Broken()


SIZE = {"num_steps": 256, "num_envs": 4, "rollout_length": 16, "eval_episodes": 0, "quiet": True}


def test_a_metric_of_a_phase_that_is_not_due_is_nan_and_no_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "POINTS", 2)
    run = runs.train(tmp_path / "run", sometimes, "CartPole-v1", **SIZE)
    curves = read_curves(run.folder.metrics_file, "fit", 1)
    np.testing.assert_array_equal(curves.values, [[1.0, 1.0]])  # the mean over the updates that fitted
    assert not run.folder.failure_file.exists()


def test_rewards_that_are_not_finite_are_the_environment_s_failure(tmp_path):
    with pytest.raises(RunStopped, match="episode_return is nan in update 1 .*rewards are not finite"):
        runs.train(tmp_path / "run", sometimes, Unpaid, **SIZE)
    assert "episode_return" in RunFolder(tmp_path / "run").failure_file.read_text()
    assert json.loads(RunFolder(tmp_path / "run").config_file.read_text())["kind"] == "task"
