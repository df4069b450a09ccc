"""Runs in environments outside JAX: their own batches to evaluate in, one program, reset anew where a run goes on."""

import json

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl import runs
from jaxrl.runs.config import ConfigError
from jaxrl.runs.loading import restore

NAME = "gymnasium/CartPole-v1"
SIZE = {"num_steps": 256, "num_envs": 2, "rollout_length": 16, "seeds": 2}


def test_a_run_outside_is_evaluated_and_resumed(tmp_path, capsys):
    run = runs.train(tmp_path / "run", "a2c", NAME, eval_every=128, eval_episodes=3, **SIZE)
    assert run.config.kind == "outside"
    returns = np.array(json.loads(run.folder.evaluation_file.read_text())["returns"])
    assert returns.shape == (2, 3) and (returns >= 1).all()
    header, *rows = run.folder.metrics_file.read_text().splitlines()
    evaluated = [row.split(",")[header.split(",").index("evaluation_return")] for row in rows]
    assert sum(bool(value) for value in evaluated) == 4, "two evaluations of two seeds"
    before = restore(run.folder.path)[2]
    kept = [np.asarray(x) for x in (before.agent.updates, before.episode_length)]
    capsys.readouterr()
    again = runs.resume(run.folder.path, num_steps=288)
    assert "environments, which are outside JAX, are reset anew" in " ".join(capsys.readouterr().out.split())
    assert kept[0].tolist() == [8, 8] and np.asarray(again.state.agent.updates).tolist() == [9, 9]
    assert (np.asarray(again.state.episode_length) <= 16).all() and kept[1].shape == (2, 2)
    agent, state = jaxrl.load(run.folder.path, seed=1)
    assert agent.act(jax.random.key(0), state, np.zeros((1, 4), np.float32), explore=False)[0].shape == (1,)


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("a2c", {"workers": 2, "seeds": 1}, "workers: got 2, .* kind 'outside' .gymnasium/CartPole-v1."),
        ("a2c", {"devices": 2}, "devices: got 2, must be 1 in gymnasium/CartPole-v1, which is outside JAX"),
        ("alphazero", {}, "recipe: alphazero plans in the simulator, and gymnasium/CartPole-v1 is outside JAX"),
    ],
)
def test_what_needs_jax_is_refused_by_name(tmp_path, recipe, options, message):
    with pytest.raises(ConfigError, match=message):
        runs.train(tmp_path / "run", recipe, NAME, quiet=True, **{**SIZE, **options})
    assert not (tmp_path / "run").exists()
