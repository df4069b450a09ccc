"""Kinds of runs and ways to train: another one is another row, and nothing else asks."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.classic_control.cartpole import CartPole

import jaxrl
from jaxrl import envs, runs
from jaxrl.cli.main import main
from jaxrl.runs import curves, kinds, trainers
from jaxrl.runs import session as sessions
from jaxrl.runs.config import ConfigError
from jaxrl.runs.folder import RunFolder
from jaxrl.training.loop import TrainState

from .conftest import make_config, mlp, save_start

SIZE = {"num_steps": 256, "num_envs": 4, "rollout_length": 16, "quiet": True, "torso": "mlp"}


@pytest.mark.parametrize(
    ("agent", "finite"), [((), True), (jnp.int32([1, 2]), True), (jnp.array([1.0, jnp.nan]), False)]
)
def test_an_agent_without_floats_is_finite(agent, finite):
    """As mpc's with the true simulator, whose state is empty."""
    state = TrainState(agent, (), (), (), (), jnp.zeros(2, jnp.int32), ())
    assert sessions._finite_members(state).tolist() == [True, finite]


class Outside(CartPole):
    """Stands for an environment outside of JAX."""

    outside = True


def make_outside():
    return Outside()


def is_outside(env):
    return any(getattr(layer, "outside", False) for layer in layers_of(env))


def layers_of(env):
    while env is not None:
        yield env
        env = getattr(env, "env", None)


@pytest.fixture
def host(monkeypatch):
    """A row for environments outside of JAX; returns the calls of its evaluator."""
    calls = []
    task = kinds.KINDS["task"]

    def check(config, torso):
        if config.devices != 1:
            raise ConfigError(f"devices: got {config.devices}, must be 1 outside of JAX")

    def refuse(config, env, params):
        raise ConfigError(f"recipe: {config.recipe} plans in a simulator, and {config.environment} has none")

    def evaluator(built, num_episodes, explore):
        def play(states, seed):
            calls.append((num_episodes, explore, seed))
            return task.evaluator(built, num_episodes, explore)(states, seed)

        return play

    def resumed(program, state):
        fresh = program.start()
        return state._replace(env_state=fresh.env_state, observation=fresh.observation), "environments are reset anew"

    row = task._replace(
        name="host",
        includes=is_outside,
        trainers=("devices",),
        check=check,
        simulator=refuse,
        evaluator=evaluator,
        resumed=resumed,
        draw=None,
        curve=kinds.CurveColumns("episode_return", "return in the real world"),
    )
    monkeypatch.setattr(kinds, "KINDS", {"host": row, **kinds.KINDS})
    return calls


def test_a_row_of_the_table_is_a_kind_of_runs(host, tmp_path, capsys):
    with pytest.raises(ConfigError, match="workers: got 2, .* kind 'host'"):
        runs.train(tmp_path / "no", "a2c", make_outside, workers=2, **SIZE)
    with pytest.raises(ConfigError, match="devices: got 2, must be 1"):
        runs.train(tmp_path / "no", "a2c", make_outside, devices=2, **SIZE)
    with pytest.raises(ConfigError, match="alphazero plans in a simulator"):
        runs.train(tmp_path / "no", "alphazero", make_outside, **SIZE)
    assert not (tmp_path / "no").exists()

    run = runs.train(tmp_path / "run", "a2c", make_outside, eval_every=128, eval_episodes=3, **SIZE)
    assert run.config.kind == "host" and host == [(3, False, 1), (3, False, 1), (3, False, 0)]
    again = runs.resume(run.folder.path, num_steps=512, eval_every=512, eval_episodes=2)
    assert "environments are reset anew" in capsys.readouterr().out
    assert int(again.state.updates.max()) == 8
    assert main(["evaluate", str(run.folder.path), "--episodes", "2", "--explore", "--seed", "7"]) == 0
    assert host[-1] == (2, True, 7)
    assert main(["evaluate", str(run.folder.path), "--gif", str(tmp_path / "a.gif")]) == 2
    assert "--gif: there is no picture" in capsys.readouterr().err
    assert curves._name("episode_return", [run.folder]) == "return in the real world"


def test_an_environment_outside_is_reset_anew_where_a_run_goes_on(host, tmp_path):
    """The agent goes on exactly: only what belongs to the environment is fresh."""
    given = {"environment": Outside()}
    run = runs.train(tmp_path / "run", "a2c", Outside(), eval_episodes=0, **SIZE)
    program = kinds_program(run)
    state, note = run.built.kind.resumed(program, run.state)
    assert note and np.array_equal(state.observation, program.start().observation)
    assert not np.array_equal(state.observation, run.state.observation)
    assert jax.tree.all(jax.tree.map(np.array_equal, state.agent, run.state.agent))
    assert jaxrl.load(run.folder.path, **given)[1].params is not None


def kinds_program(run):
    return trainers.trainer_of(run.config).make(run.config, run.built, None)


def test_nothing_outside_of_the_tables_asks_for_a_kind_or_a_trainer():
    """What a kind or a trainer decides is decided in its row: no branch on its name, on players, or on workers."""
    source = Path(jaxrl.__file__).parent
    asks = (r"num_players\([^)]*\) *[!=]=", r"config\.workers\b", r"kind\.name ==")
    branch = re.compile("|".join((*asks, r"[\"](game|task)[\"] *[!=]=", r"[!=]= *[\"](game|task)[\"]")))
    found = {
        f"{path.relative_to(source)}: {line.strip()}"
        for folder in ("runs", "cli")
        for path in (source / folder).rglob("*.py")
        if path.name not in ("kinds.py", "trainers.py")
        for line in path.read_text().splitlines()
        if branch.search(line)
    }
    assert found == set()


def test_the_kind_is_written_down_and_older_runs_are_judged_by_their_snapshots(tmp_path):
    folder, _ = save_start(tmp_path / "run", make_config())
    assert folder.read_config().kind is None and kinds.kind_of_run(folder).name == "task"
    folder.snapshot_folder.mkdir()
    assert kinds.kind_of_run(folder).name == "game"
    folder.write_config(dataclasses.replace(folder.read_config(), kind="task"))
    assert kinds.kind_of_run(folder).name == "task"
    folder.write_config(dataclasses.replace(folder.read_config(), kind="dream"))
    with pytest.raises(ConfigError, match="kind 'dream' is unknown to this version"):
        kinds.kind_of_run(RunFolder(folder.path))


def test_kinds_are_told_by_the_environment():
    assert kinds.kind_of(envs.make("CartPole-v1")[0]).name == "task"
    game = envs.make("pgx/tic_tac_toe")[0]
    assert kinds.kind_of(game).name == "game" and kinds.kind_of(envs.window(game, 2)).name == "game"


def test_workers_set_the_delay_wherever_a_run_starts(tmp_path):
    options = {key: value for key, value in SIZE.items() if key != "torso"} | {"eval_episodes": 0}
    with pytest.raises(ConfigError, match="delay: workers have delayed gradients already; leave out delay or workers"):
        runs.train(tmp_path / "no", "a3c", "CartPole-v1", workers=2, delay=3, **options)
    run = runs.train(tmp_path / "run", "a3c", "CartPole-v1", workers=2, torso=jaxrl.networks.MLP((8,)), **options)
    assert run.config.hyperparameters["delay"] == 0 and int(run.state.updates.max()) == 4
    config = make_config(recipe="a3c", workers=2, parts={"torso": mlp()})
    assert trainers.trainer_of(config).name == "workers"
    assert trainers.trainer_of(dataclasses.replace(config, workers=0)).name == "devices"
