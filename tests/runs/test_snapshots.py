"""Snapshots: who of a run can be met again, and that it is the same player."""

import jax
import numpy as np
import pytest

from jaxrl.runs.building import build, make_program
from jaxrl.runs.folder import RunError, RunFolder
from jaxrl.runs.loading import restore_players
from jaxrl.runs.snapshots import NUM_SNAPSHOTS, is_due, saved_updates, without_replay

from .conftest import make_config

DQN = {"replay_capacity": 64, "batch_size": 4, "learning_starts": 8}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with a snapshot of update 1 and a checkpoint of update 2, and the states."""
    config = make_config(recipe="dqn", hyperparameters=DQN)
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "game")
    folder.create(config)
    program = make_program(config, build(config))
    state, _ = program.advance(program.start(), 1)
    early = jax.device_get(without_replay(state.agent))
    folder.snapshots(config).save(1, early)
    state, _ = program.advance(state, 1)
    folder.checkpoints(config).save(2, state)
    return folder, config, {1: early, 2: jax.device_get(without_replay(state.agent))}


def test_players_come_back_without_their_replay(run):
    folder, config, states = run
    assert saved_updates(folder, config) == [1, 2]
    for update in (1, 2, None):
        _, built, players = restore_players(folder.path, update)
        assert players.per_env == ()
        wanted = states[update or 2]
        jax.tree.map(np.testing.assert_array_equal, players, wanted)
        one = jax.tree.map(lambda leaf: leaf[0], players)
        action, _ = built.agent(0).act(jax.random.key(0), one, np.zeros((5, 4), np.float32), explore=False)
        assert action.shape == (5,)
    size = {path.name: sum(file.stat().st_size for file in path.rglob("*")) for path in folder.path.iterdir()}
    assert size["snapshots"] < size["checkpoints"]


def test_what_was_not_saved_is_refused(run, tmp_path):
    folder, config, _ = run
    with pytest.raises(RunError, match=r"update: got 3, must be one of 1, 2"):
        restore_players(folder.path, 3)
    fresh = RunFolder(tmp_path / "fresh")
    fresh.create(config)
    with pytest.raises(RunError, match="has no checkpoint yet"):
        restore_players(fresh.path)


@pytest.mark.parametrize(("num_updates", "chunk"), [(640, 10), (100, 7), (12, 3), (7, 1), (5, 5)])
def test_snapshots_are_spread_over_the_run_whatever_its_chunks(num_updates, chunk):
    ends = [0, *range(chunk, num_updates, chunk), num_updates]
    taken = [now for before, now in zip([-1, *ends], ends, strict=False) if is_due(before, now, num_updates)]
    assert taken[0] == 0 and taken[-1] == num_updates
    assert len(taken) <= NUM_SNAPSHOTS + 1 and (len(taken) == NUM_SNAPSHOTS + 1 or taken == ends)
    assert max(np.diff(taken)) <= max(2 * chunk, num_updates // NUM_SNAPSHOTS + chunk)
