"""Runs in environments outside JAX: their own batches to evaluate in, one program, reset anew where a run goes on."""

import csv
import json
import re
from functools import partial

import jax
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

import jaxrl
from jaxrl import runs
from jaxrl.cli.main import main
from jaxrl.envs.host import HostEnv, Serial, interface
from jaxrl.runs.config import ConfigError
from jaxrl.runs.errors import RunStopped
from jaxrl.runs.filmed import FRAMES, Film
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
    assert "environments are outside JAX and were reset" in " ".join(capsys.readouterr().out.split())
    assert kept[0].tolist() == [8, 8] and np.asarray(again.state.agent.updates).tolist() == [9, 9]
    assert (np.asarray(again.state.episode_length) <= 16).all() and kept[1].shape == (2, 2)
    agent, state = jaxrl.load(run.folder.path, seed=1)
    assert agent.act(jax.random.key(0), state, np.zeros((1, 4), np.float32), explore=False)[0].shape == (1,)


def test_episodes_outside_are_drawn(tmp_path, capsys):
    """One reward a step in CartPole: the return is the number of pictures, until they are thinned out."""
    run = runs.train(tmp_path / "run", "reinforce", NAME, eval_episodes=0, **{**SIZE, "num_steps": 32})
    gif = tmp_path / "pictures" / "a.gif"
    command = ["evaluate", str(run.folder.path), "--episodes", "1", "--gif", str(gif), "--gif-episodes", "2"]
    assert main([*command, "--gif-seed", "1", "--explore"]) == 0
    returns = [float(text) for text in re.findall(r"returns ([\d., ]+)\)", capsys.readouterr().out)[0].split(", ")]
    with Image.open(gif) as picture:
        assert picture.n_frames == sum(returns) and picture.size[0] == 400
        pixels = [np.asarray(picture.convert("RGB")) for _ in map(picture.seek, (0, picture.n_frames - 1))]
    assert (pixels[0] != pixels[1]).any() and pixels[0].std() > 10, "the cart moves"


def test_long_episodes_are_thinned_out():
    film = Film()
    for step in range(1000):
        film.add(np.full((8, 8, 3), step % 256), "name")
        film.step(1.0, False)
    assert (film.every, film.total) == (4, 1000.0) and FRAMES // 2 < len(film.pictures) <= FRAMES
    assert film.pictures[7].getpixel((4, 20)) == (28, 28, 28), "of step 28"


class Fails:
    """Raises an error in its 70th step."""

    count = 0

    def reset(self, *, seed=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.count += 1
        if self.count == 70:
            raise ZeroDivisionError("the gripper is at infinity")
        return np.zeros(2, np.float32), 1.0, self.count % 10 == 0, False, {}

    def close(self):
        pass


def fails():
    space, actions = spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(2)
    return HostEnv("fails", partial(Serial, Fails), interface("fails", space, actions), max_steps_in_episode=50)


def test_a_failure_is_one_line_that_names_the_last_checkpoint(tmp_path):
    message = (
        r"^environment [01] \(seed \d+\) raised ZeroDivisionError: the gripper is at infinity; the last good "
        r"checkpoint is update 0 of 8; go on with: jaxrl resume [^\n]*$"
    )
    with pytest.raises(RunStopped, match=message):
        runs.train(tmp_path / "run", "a2c", fails, eval_episodes=0, quiet=True, torso="mlp", **{**SIZE, "seeds": 1})


def restarts():
    space, actions = spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(2)
    make = partial(Serial, Fails, restarts=9)
    return HostEnv("restarts", make, interface("restarts", space, actions), max_steps_in_episode=50)


def test_restarts_are_a_column(tmp_path):
    """Each of the two environments fails once in 128 steps, in its 70th."""
    settings = {**SIZE, "seeds": 1, "torso": "mlp", "eval_episodes": 0, "quiet": True}
    run = runs.train(tmp_path / "run", "a2c", restarts, **settings)
    with run.folder.metrics_file.open() as file:
        counts = [row["env_restarts"] for row in csv.DictReader(file)]
    assert counts[-1] == "2" and set(counts) <= {"", "2"}


class Closed(Fails):
    """Never fails until ``broken``, and notes that it was closed."""

    made, broken = [], False

    def __init__(self):
        self.is_closed = False
        self.made.append(self)

    def step(self, action):
        self.count = self.count % 10 if not self.broken else 69
        return super().step(action)

    def close(self):
        self.is_closed = True


def closes():
    space, actions = spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(2)
    return HostEnv("closes", partial(Serial, Closed), interface("closes", space, actions), max_steps_in_episode=50)


def test_environments_are_closed_at_the_end_and_after_a_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Closed, "made", [])
    settings = {**SIZE, "seeds": 1, "quiet": True, "torso": "mlp"}
    run = runs.train(tmp_path / "run", "a2c", closes, eval_every=128, eval_episodes=3, **settings)
    assert len(Closed.made) > 5 and all(env.is_closed for env in Closed.made)
    assert main(["evaluate", str(run.folder.path), "--episodes", "3", "--trust"]) == 0
    assert all(env.is_closed for env in Closed.made)
    monkeypatch.setattr(Closed, "broken", True)
    capsys.readouterr()
    assert main(["evaluate", str(run.folder.path), "--episodes", "3", "--trust"]) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(r"jaxrl: environment \d .*raised ZeroDivisionError: .*; .*run is as it was\n", error), error
    with pytest.raises(RunStopped, match="ZeroDivisionError: .* update 8 of 16; go on with"):
        runs.resume(run.folder.path, num_steps=512, quiet=True)
    assert all(env.is_closed for env in Closed.made)


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
