"""Episodes of environments outside JAX as a GIF, in the pictures that these environments draw of themselves."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from PIL import Image, ImageDraw

from jaxrl.envs.abstract import host_of
from jaxrl.envs.wrappers import layers
from jaxrl.rollout import reset, step
from jaxrl.runs.outside import environments_open
from jaxrl.types import Array, PyTree

if TYPE_CHECKING:
    from jaxrl.runs.building import Built

FRAMES = 400
"""The most pictures of an episode; a longer one is shown at every second step, every fourth, and so on."""

WIDEST = 400
"""The largest width and height of a picture in pixels."""

STEPS_PER_SECOND = 30


class Film:
    """Pictures of one episode, thinned out as it grows.

    Attributes:
      pictures: those that are kept.
      every: the number of steps from one to the next.
      total: sum of rewards so far.
      steps: number of steps so far.
      ended: whether the episode ended.
    """

    def __init__(self) -> None:
        self.pictures: list[Image.Image] = []
        self.every, self.total, self.steps, self.ended = 1, 0.0, 0, False

    def add(self, picture: np.ndarray, title: str) -> None:
        """Keeps the picture of a state, if its turn has come; ``title`` is completed by step and return so far."""
        if self.steps % self.every:
            return
        image = Image.fromarray(np.asarray(picture, np.uint8)).convert("RGB")
        image.thumbnail((WIDEST, WIDEST))
        framed = Image.new("RGB", (image.width, image.height + 16), "white")
        framed.paste(image, (0, 16))
        ImageDraw.Draw(framed).text((4, 2), f"{title}: step {self.steps}, return {self.total:.1f}", fill="black")
        self.pictures.append(framed)
        if len(self.pictures) > FRAMES:
            self.pictures, self.every = self.pictures[::2], 2 * self.every

    def step(self, reward: float, ended: bool) -> None:
        """Counts a step."""
        self.total, self.steps, self.ended = self.total + reward, self.steps + 1, ended


def film_episodes(
    path: Path,
    built: Built,
    states: PyTree,
    member: int,
    key: Array,
    *,
    num_episodes: int,
    max_steps: int,
    explore: bool,
) -> list[float]:
    """Plays episodes with one of the members ``[S, ...]`` of a run, draws them, and returns their returns.

    Raises:
      EnvironmentStopped: the environment has failed, or can't be drawn.
    """
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MUJOCO_GL", "egl")
    with environments_open([built], lambda: f"{path} was not written"):
        films = _played(built, states, member, key, num_episodes, max_steps, explore)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, films)
    return [film.total for film in films]


def _played(
    built: Built, states: PyTree, member: int, key: Array, num_episodes: int, max_steps: int, explore: bool
) -> list[Film]:
    env, params, agent, host = built.env, built.params, built.agent(member), host_of(built.env)
    state = jax.tree.map(lambda leaf: leaf[member], states)
    films = [Film() for _ in range(num_episodes)]
    titles = [f"{env.name}, episode {number + 1}" if num_episodes > 1 else env.name for number in range(num_episodes)]

    @jax.jit
    def play(keys: Array, state: PyTree, env_state: PyTree, observation: Any) -> Any:
        env_state, observation, transition = step(keys, agent, state, env, params, env_state, observation, explore)
        return env_state, observation, transition.reward, transition.terminated | transition.truncated

    reset_key, run_key = jax.random.split(key)
    with host.drawn():
        observation, env_state = jax.jit(partial(reset, env=env, params=params, num_envs=num_episodes))(reset_key)
        for time in range(max_steps):
            inner = list(layers(env, env_state))[-1][1]
            for index, film in enumerate(films):
                if not film.ended:
                    film.add(host.render(jax.tree.map(lambda x, index=index: x[index], inner)), titles[index])
            keys = jax.random.split(jax.random.fold_in(run_key, time), 1 + num_episodes)
            env_state, observation, reward, ended = play(keys, state, env_state, observation)
            for film, paid, ends in zip(films, np.asarray(reward), np.asarray(ended), strict=True):
                if not film.ended:
                    film.step(float(paid), bool(ends))
            if all(film.ended for film in films):
                break
    return films


def write(path: Path, films: Sequence[Film]) -> None:
    """Writes films into one GIF, one after the other, each at ``STEPS_PER_SECOND``."""
    first, *others = [picture for film in films for picture in film.pictures]
    durations = [1000 * film.every // STEPS_PER_SECOND for film in films for _ in film.pictures]
    first.save(path, save_all=True, append_images=others, duration=durations, loop=0, optimize=True)
