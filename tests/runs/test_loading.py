"""A run on disk becomes an agent again; another run may start from it."""

import dataclasses
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest
from rich.console import Console

import jaxrl
from jaxrl.agents.combinators import RewardedState
from jaxrl.runs import starting
from jaxrl.runs.building import build, make_program
from jaxrl.runs.config import Sweep
from jaxrl.runs.folder import RunError, RunFolder
from jaxrl.runs.folder import versions as versions_here
from jaxrl.runs.loading import first_member, load, restore, transfer
from jaxrl.training.checkpoint import CheckpointError

from .conftest import make_config, mlp, save_start


def same(left, right):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True))


def test_restore_gives_back_the_whole_state(saved):
    folder, config, state = saved
    loaded_config, _, loaded = restore(folder.path)
    assert loaded_config == config
    assert same(loaded, state)


def test_load_gives_one_seed_that_acts(saved):
    folder, _, state = saved
    for seed in (0, 1):
        agent, loaded = jaxrl.load(folder.path, seed=seed)
        assert same(loaded, jax.tree.map(lambda leaf, seed=seed: leaf[seed], state.agent))
        action, _ = agent.act(jax.random.key(0), loaded, np.zeros((5, 4), np.float32), explore=False)
        assert action.shape == (5,)
    assert not same(load(folder.path)[1], loaded)


def test_load_gives_the_population_on_request(saved):
    folder, _, state = saved
    agent, population = load(folder.path, seed=None)
    assert same(population, state.agent)
    acts = jax.vmap(lambda state: agent.act(jax.random.key(0), state, np.zeros((5, 4), np.float32))[0])
    assert acts(population).shape == (2, 5)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"seed": 2}, "seed: got 2, .* has the seeds 0 to 1"),
        ({"seed": -1}, "seed: got -1, .* has the seeds 0 to 1"),
        ({"value": 0.5}, "value: got 0.5, must be left out: .* has no sweep"),
        ({"update": 7}, "update: got 7, must be a checkpoint of .*: 2"),
    ],
)
def test_what_is_not_in_a_run_is_refused(saved, chosen, message):
    with pytest.raises(RunError, match=message):
        load(saved[0].path, **chosen)


def test_of_a_sweep_one_chooses_the_value_and_the_seed(tmp_path):
    # The start of the log deviation is a hyper-parameter that acting reads.
    config = make_config(environment="Pendulum-v1", seeds=2, sweep=Sweep.grid({"initial_log_std": (-3.0, 1.0)}))
    folder, state = save_start(tmp_path / "sweep", config)
    spread = []
    for number, (value, seed) in enumerate([(-3.0, 0), (-3.0, 1), (1.0, 0), (1.0, 1)]):
        assert config.members()[number][1:] == (seed, number // 2)
        agent, loaded = load(folder.path, value=value, seed=seed)
        assert same(loaded, jax.tree.map(lambda leaf, number=number: leaf[number], state.agent))
        _, extras = agent.act(jax.random.key(0), loaded, np.zeros((500, 3), np.float32))
        spread.append(np.std(extras.raw_action))
    assert max(spread[:2]) < 0.2 and min(spread[2:]) > 1.5
    _, both = load(folder.path, value=1.0, seed=None)
    assert same(both, jax.tree.map(lambda leaf: leaf[2:], state.agent))
    with pytest.raises(
        RunError, match="value: got None, must be a value of the sweep over initial_log_std in .*: -3, 1"
    ):
        load(folder.path)
    with pytest.raises(RunError, match="value: got 2, .*sweep has initial_log_std = -3, 1"):
        load(folder.path, value=2.0)


def test_of_a_grid_one_chooses_by_all_values_or_by_name(tmp_path):
    config = make_config(seeds=2, sweep=Sweep.grid({"gamma": (0.9, 0.99), "learning_rate": (1e-4, 1e-3)}))
    first = partial(first_member, config, "RUN")
    assert [first(value) for value in ((0.9, 1e-4), (0.9, 1e-3), [0.99, 1e-4])] == [0, 2, 4]
    assert first({"learning_rate": 1e-3, "gamma": 0.99}) == 6
    listed = "gamma=0.9 learning_rate=0.0001; gamma=0.9 learning_rate=0.001; gamma=0.99"
    for value, message in (
        (None, f"over gamma, learning_rate in .*: {listed}"),
        (0.9, f"got 0.9, must be 2 numbers .gamma, learning_rate., or name=number; .* {listed}"),
        ((0.9, 0.5), f"got 0.9, 0.5, RUN has the settings {listed}"),
        ({"gamma": 0.9}, f"got gamma=0.9, fits several of them: .*{listed}"),
        ({"gama": 0.9}, "'gama' is not swept, did you mean 'gamma'"),
    ):
        with pytest.raises(RunError, match=f"value: .*{message}"):
            first(value)
    one = make_config(sweep=Sweep(("gamma", "learning_rate"), ((0.9, 1e-3), (0.99, 1e-4))))
    assert first_member(one, "RUN", {"gamma": 0.99}) == 2, "what tells it from the others is enough"


def test_what_is_no_run_is_refused(tmp_path, config):
    with pytest.raises(RunError, match="there is no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(RunError, match="has no config.json"):
        load(tmp_path)
    RunFolder(tmp_path / "fresh").create(config)
    with pytest.raises(RunError, match="has no checkpoint yet"):
        load(tmp_path / "fresh")
    with pytest.raises(RunError, match="is a run already"):
        RunFolder(tmp_path / "fresh").create(config)


def test_a_checkpoint_of_another_agent_is_refused(tmp_path, saved):
    folder, config, _ = saved
    other = RunFolder(tmp_path / "other")
    other.create(dataclasses.replace(config, parts={"torso": mlp(9)}))
    shutil.copytree(folder.checkpoint_folder, other.checkpoint_folder)
    with pytest.raises(CheckpointError, match="is of another run: parts is"):
        load(other.path)


def test_versions_are_on_record(saved):
    versions = json.loads(saved[0].versions_file.read_text())
    assert versions["jax"] == jax.__version__
    assert {"jaxrl", "jaxlib", "python", "device"} <= set(versions)
    assert (versions["command"], versions["folder"]) == (shlex.join(sys.argv), os.getcwd())


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
@pytest.mark.parametrize("dirty", [False, True])
def test_the_commit_of_the_folder_is_on_record(tmp_path, monkeypatch, dirty):
    git = partial(subprocess.run, cwd=tmp_path, check=True, capture_output=True, text=True)
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    (tmp_path / "a.txt").write_text("one")
    for command in (["init"], ["add", "."], [*who, "commit", "-m", "first"]):
        git(["git", *command])
    if dirty:
        (tmp_path / "a.txt").write_text("two")
    monkeypatch.chdir(tmp_path)
    commit = git(["git", "rev-parse", "HEAD"]).stdout.strip()
    assert versions_here()["git_commit"] == commit + "-dirty" * dirty


@pytest.mark.parametrize(
    ("num_steps", "said"), [(1280, r"learning rate: .*1280 steps \(640 before\), so it rises again"), (640, "")]
)
def test_a_longer_annealed_run_says_that_its_rate_rises_again(num_steps, said):
    before = make_config(hyperparameters={"anneal_learning_rate": True})
    printed = Console(record=True, file=io.StringIO(), width=300)
    starting.say_changes(dataclasses.replace(before, num_steps=num_steps), before, printed)
    assert re.match(said, text := printed.export_text()) and bool(text) == bool(said)


def fresh(config):
    return make_program(config, build(config)).start()


def test_transfer_copies_parameters_and_nothing_else(saved):
    folder, config, state = saved
    start = fresh(dataclasses.replace(config, seeds=3, num_envs=4, seed=9))
    moved = transfer(folder.path, start)
    for member, source in enumerate([0, 1, 0]):
        pick = lambda tree, index: jax.tree.map(lambda leaf: leaf[index], tree)  # noqa: E731
        assert same(pick(moved.agent.params, member), pick(state.agent.params, source))
    assert same(
        moved._replace(agent=moved.agent._replace(params=())), start._replace(agent=start.agent._replace(params=()))
    )


def test_transfer_takes_the_statistics_of_observations_along(tmp_path):
    config = make_config(hyperparameters={"normalize_observation": True})
    folder, state = save_start(tmp_path / "normalized", config)
    moved = transfer(folder.path, fresh(dataclasses.replace(config, seed=9)))
    assert same(moved.agent.statistics.observation, state.agent.statistics.observation)
    assert int(np.max(moved.updates)) == 0


def test_transfer_to_a_rewarded_agent_takes_the_statistics_along(tmp_path):
    config = make_config(hyperparameters={"normalize_observation": True})
    folder, state = save_start(tmp_path / "normalized", config)
    start = fresh(dataclasses.replace(config, seed=9))
    rewarded = start._replace(agent=RewardedState(start.agent, reward_model=(), per_env=((), ())))
    moved = transfer(folder.path, rewarded).agent
    assert same(moved.agent.statistics.observation, state.agent.statistics.observation)
    assert same(moved.agent.params, state.agent.params)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"parts": {"torso": mlp(9)}},
            r"params.*bias.* is of shape \[8\] there, and of shape \[9\] here",
        ),
        ({"parts": {"torso": mlp(8, 8)}}, r"params.*Dense_1.* is absent there, and of shape"),
        ({"environment": "Acrobot-v1"}, r"params.* is of shape \[4, 8\] there, and of shape \[6, 8\] here"),
    ],
)
def test_parameters_that_do_not_fit_are_named(saved, changes, message):
    folder, config, _ = saved
    with pytest.raises(RunError, match=message):
        transfer(folder.path, fresh(dataclasses.replace(config, **changes)))
