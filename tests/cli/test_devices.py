"""Runs over a mesh of devices, and what is said of counts that do not fit."""

import json

import jax
import numpy as np
import pytest

from jaxrl.cli import hosts, train
from jaxrl.cli.errors import UsageError
from jaxrl.runs import starting
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.loading import load, restore

from .conftest import TINY

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices, see JAX_NUM_CPU_DEVICES")


def test_a_run_over_eight_devices_resumes_on_eight_or_fewer(jaxrl, short_chunks, tmp_path):
    run, whole = tmp_path / "run", tmp_path / "whole"
    split = ("--devices", 8, "--seeds", 2, "--seed-devices", 2, "--eval-episodes", 0, *TINY)
    # Nothing of these depends on the budget.
    still = ("--no-anneal-clip", "--no-anneal-learning-rate")
    done = jaxrl("train", "ppo", "CartPole-v1", "--steps", 512, "--out", run, *split, *still)
    assert (
        done.code == 0
        and jaxrl("train", "ppo", "CartPole-v1", "--steps", 1024, "--out", whole, *split, *still).code == 0
    )
    assert (RunFolder(run).read_config().devices, RunFolder(run).read_config().seed_devices) == (8, 2)
    assert jaxrl("resume", run, "--steps", 1024, "--eval-episodes", 4).code == 0
    ours, theirs = (restore(folder)[2] for folder in (run, whole))
    assert all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))
    assert np.shape(json.loads((run / "evaluation.json").read_text())["returns"]) == (2, 4)

    agent, state = load(run, seed=1)  # on one device
    assert agent.act(jax.random.key(0), state, np.zeros((3, 4)), explore=False)[0].shape == (3,)
    fewer = jaxrl("resume", run, "--steps", 1280, "--devices", 4, "--seed-devices", 1, "--eval-episodes", 0)
    assert fewer.code == 0 and "on 4 devices, 8 before: with other random numbers" in fewer.out
    assert RunFolder(run).read_config().devices == 4


def test_a_run_that_had_more_devices_says_how_to_go_on(jaxrl, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    flags = ["ppo", "CartPole-v1", "--devices", "16", "--num-envs", "16"]
    for seeds, words in (("1", "--devices 1"), ("2", "--devices 1 --seed-devices 1")):
        folder.write_config(train.train_flags.parse([*flags, "--seeds", seeds, "--seed-devices", seeds])[0])
        refused = jaxrl("resume", folder.path)
        assert (
            refused.code == 2 and "run was trained on 16 devices, and there are 8; to continue on one" in refused.error
        )
        assert refused.error.endswith(f"jaxrl resume {folder.path} {words}")


def test_a_dry_run_says_what_lies_on_each_device(jaxrl):
    sizes = ("--num-envs", 8, "--replay-capacity", 4096, "--torso.hidden", 8, "--steps", 10_000)
    done = jaxrl("train", "dqn", "CartPole-v1", "--dry-run", "--devices", 4, *sizes)
    assert done.code == 0 and "on each of 4 devices" in done.out
    # 1024 transitions a device: two observations of 4 floats, 3 numbers and 2 flags.
    assert "47.1 kB of it replay" in done.out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--devices", 9), "devices: got 9, there are 8 (cpu); for a trial on the CPU, JAX_NUM_CPU_DEVICES=9"),
        (("--devices", 0), "devices: got 0, must be at least 1"),
        (("--devices", 8, "--num-envs", 12), "num_envs: got 12, must be a multiple of 8"),
        (("--devices", 4, "--seeds", 3, "--seed-devices", 2), "seeds: got 3, must be a multiple of 2"),
        (("--seed-devices", 2), "seed_devices: got 2, must divide the 1 devices"),
        (("--process-id", 1), "need --distributed"),
        (("--distributed", "--process-id", 1), "give all three"),
    ],
)
def test_counts_that_do_not_fit_are_named_before_an_agent_is_made(flags, message, jaxrl, monkeypatch):
    monkeypatch.setattr(starting, "make_phases", lambda *given: pytest.fail("built"))
    done = jaxrl("train", "ppo", "Catch-bsuite", *flags)
    assert done.code == 2 and message in done.error


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--coordinator", "here", "--num-processes", "2", "--process-id", "0"), "got 'here', must be HOST:PORT"),
        (("--coordinator=a:1", "--num-processes=2", "--process-id=2"), r"got 2, must be in \[0, 1\]"),
        (("--coordinator=a:1", "--num-processes=two", "--process-id=0"), "got 'two', must be an integer"),
    ],
)
def test_processes_that_can_not_be_are_named(flags, message):
    with pytest.raises(UsageError, match=message):
        hosts.connect(["ppo", "CartPole-v1", "--distributed", *flags])


def test_processes_are_joined_as_the_flags_say(monkeypatch):
    calls = []
    monkeypatch.setattr(hosts.processes, "connect", lambda *arguments: calls.append(arguments))
    hosts.connect(["ppo", "CartPole-v1"])
    hosts.connect(["ppo", "CartPole-v1", "--distributed"])
    hosts.connect(["RUN", "--distributed", "--coordinator", "a:1", "--num_processes=3", "--process-id", "2"])
    hosts.connect(["ppo", "--distributed", "--help"])
    assert calls == [(), ("a:1", 3, 2)]
