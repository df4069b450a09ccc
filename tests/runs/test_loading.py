"""A run on disk becomes an agent again; another run may start from it."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.runs.building import build, make_program
from jaxrl.runs.config import Sweep, Torso
from jaxrl.runs.folder import RunError, RunFolder
from jaxrl.runs.loading import load, restore, transfer
from jaxrl.training.checkpoint import CheckpointError

from .conftest import make_config, save_start


def same(left, right):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True))


def test_restore_gives_back_the_whole_state(saved):
    folder, config, state = saved
    loaded_config, _, loaded = restore(folder.path)
    assert loaded_config == config
    assert same(loaded, state)


def test_load_gives_one_member_that_acts(saved):
    folder, _, state = saved
    for member in (0, 1):
        agent, loaded = jaxrl.load(folder.path, member=member)
        assert same(loaded, jax.tree.map(lambda leaf, member=member: leaf[member], state.agent))
        action, _ = agent.act(jax.random.key(0), loaded, np.zeros((5, 4), np.float32), explore=False)
        assert action.shape == (5,)
    assert not same(load(folder.path)[1], loaded)


def test_load_gives_the_population_on_request(saved):
    folder, _, state = saved
    agent, population = load(folder.path, member=None)
    assert same(population, state.agent)
    acts = jax.vmap(lambda state: agent.act(jax.random.key(0), state, np.zeros((5, 4), np.float32))[0])
    assert acts(population).shape == (2, 5)


def test_members_that_are_not_there_are_refused(saved):
    with pytest.raises(RunError, match="member: got 2, .* has 0 to 1"):
        load(saved[0].path, member=2)


def test_a_swept_member_is_its_own_agent(tmp_path):
    # The start of the log deviation is a hyper-parameter that acting reads.
    config = make_config(environment="Pendulum-v1", seeds=1, sweep=Sweep("initial_log_std", (-3.0, 1.0)))
    folder, _ = save_start(tmp_path / "sweep", config)
    spread = []
    for member in (0, 1):
        agent, state = load(folder.path, member=member)
        _, extras = agent.act(jax.random.key(0), state, np.zeros((500, 3), np.float32))
        spread.append(np.std(extras.raw_action))
    assert spread[0] < 0.2 and spread[1] > 1.5
    with pytest.raises(RunError, match="each value is another agent"):
        load(folder.path, member=None)


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
    other.create(dataclasses.replace(config, torso=Torso("mlp", {**config.torso.arguments, "hidden": (9,)})))
    shutil.copytree(folder.checkpoint_folder, other.checkpoint_folder)
    with pytest.raises(CheckpointError, match="is of another run: torso is"):
        load(other.path)


def test_versions_are_on_record(saved):
    versions = json.loads(saved[0].versions_file.read_text())
    assert versions["jax"] == jax.__version__
    assert {"jaxrl", "jaxlib", "python", "device"} <= set(versions)


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
    assert same(moved.agent.observation_statistics, state.agent.observation_statistics)
    assert int(np.max(moved.updates)) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"torso": Torso("mlp", {"hidden": (9,)})},
            r"params.*bias.* is of shape \[8\] there, and of shape \[9\] here",
        ),
        ({"torso": Torso("mlp", {"hidden": (8, 8)})}, r"params.*Dense_1.* is absent there, and of shape"),
        ({"environment": "Acrobot-v1"}, r"params.* is of shape \[4, 8\] there, and of shape \[6, 8\] here"),
    ],
)
def test_parameters_that_do_not_fit_are_named(saved, changes, message):
    folder, config, _ = saved
    with pytest.raises(RunError, match=message):
        transfer(folder.path, fresh(dataclasses.replace(config, **changes)))
