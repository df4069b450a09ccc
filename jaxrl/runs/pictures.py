"""Episodes as a GIF, in the pictures that gymnax has of its environments, or that an environment draws of itself."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

from jaxrl.envs.wrappers import layers
from jaxrl.rollout import reset, step
from jaxrl.runs.errors import ConfigError
from jaxrl.types import Agent, Array, PyTree

if TYPE_CHECKING:
    from jaxrl.runs.building import Built

FRAMES = 1000
"""The most frames in one file; longer episodes are cut off."""

DPI = 80


class Recorded(NamedTuple):
    """One episode of T steps.

    Attributes:
      env_states: pytrees of ``[T]`` leaves, before each step.
      returns: ``[T]``, the sum of rewards up to and including each step.
    """

    env_states: Sequence[PyTree]
    returns: np.ndarray


def record_episodes(
    key: Array,
    agent: Agent,
    state: PyTree,
    env: Any,
    params: PyTree,
    *,
    num_episodes: int,
    max_steps: int,
    explore: bool,
) -> list[Recorded]:
    """Plays episodes side by side and keeps the simulator's states; takes the arguments of ``training.evaluate``."""
    length = min(max_steps, FRAMES)

    @jax.jit
    def play(key: Array, state: PyTree) -> Any:
        reset_key, run_key = jax.random.split(key)
        observation, env_state = reset(reset_key, env, params, num_episodes)

        def body(carry: tuple[PyTree, Any], time: Array) -> tuple[tuple[PyTree, Any], Any]:
            env_state, observation = carry
            keys = jax.random.split(jax.random.fold_in(run_key, time), 1 + num_episodes)
            new_state, observation, transition = step(keys, agent, state, env, params, env_state, observation, explore)
            done = transition.terminated | transition.truncated
            return (new_state, observation), (env_state, transition.reward, done)

        # Strong types, because a scan's carry must keep its type.
        carry = jax.tree.map(jnp.asarray, (env_state, observation))
        return jax.lax.scan(body, carry, jnp.arange(length))[1]

    env_states, rewards, done = jax.device_get(play(key, state))
    recorded = []
    for episode in range(num_episodes):
        ends = np.nonzero(done[:, episode])[0]
        last = int(ends[0]) + 1 if ends.size else length
        states = [jax.tree.map(operator.itemgetter((t, episode)), env_states) for t in range(last)]
        recorded.append(Recorded(states, np.cumsum(rewards[:last, episode])))
    return recorded


def draw_members_episodes(
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
    """Plays episodes with one of the members ``[S, ...]`` of a run and draws them; returns their returns.

    Raises:
      ConfigError: there is no picture of this environment.
    """
    recorded = record_episodes(
        key,
        built.agent(member),
        jax.tree.map(lambda leaf: leaf[member], states),
        built.env,
        built.params,
        num_episodes=num_episodes,
        max_steps=max_steps,
        explore=explore,
    )
    draw_episodes(path, built.env, built.params, recorded)
    return [float(episode.returns[-1]) for episode in recorded]


def draw_episodes(path: Path, env: Any, params: PyTree, episodes: Sequence[Recorded]) -> None:
    """Writes the episodes, one after the other, into a GIF.

    Raises:
      ConfigError: there is no picture of this environment: gymnax has none, and it has no method ``picture(state)``.
    """
    frames = [(number, index) for number, episode in enumerate(episodes) for index in range(len(episode.env_states))]
    innermost = [list(layers(env, episodes[number].env_states[index]))[-1] for number, index in frames]
    titles = []
    for number, index in frames:
        name = f"{env.name}, episode {number + 1}" if len(episodes) > 1 else env.name
        titles.append(f"{name}: step {index + 1}, return {episodes[number].returns[index]:.1f}")
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_states(path, innermost[0][0], params, [state for _, state in innermost], titles)


def draw_states(
    path: Path, env: Any, params: PyTree, states: Sequence[PyTree], titles: Sequence[str], fastest: int = 50
) -> None:
    """Writes states of an environment without wrappers into a GIF, each with a title.

    Args:
      path: of the file.
      env, params: the environment.
      states: pytrees of one state each.
      titles: one for each state.
      fastest: the most frames per second.

    Raises:
      ConfigError: there is no picture of this environment, see ``draw_episodes``.
    """
    matplotlib.use("Agg")
    from matplotlib import animation, pyplot

    with _painter(env, params, states) as painter:
        axes, writer = painter.figure.axes[0], animation.PillowWriter(fps=min(painter.frames_per_second, fastest))
        with writer.saving(painter.figure, str(path), DPI):
            for frame, title in enumerate(titles[:FRAMES]):
                painter.paint(frame)
                axes.set_title(title)
                writer.grab_frame()
    pyplot.close(painter.figure)


class _Painter(NamedTuple):
    """A figure with ``paint(i)``, which shows state i."""

    figure: Any
    paint: Callable[[int], None]
    frames_per_second: int


@contextmanager
def _painter(env: Any, params: PyTree, states: Sequence[PyTree]) -> Iterator[_Painter]:
    from gymnax.visualize import Visualizer, vis_gym

    if env.name in vis_gym.SUPPORTED_GYM_ENVS:
        with _gymnasium_painter(env, params, states) as painter:
            yield painter
        return
    if hasattr(env, "picture"):
        with _own_painter(env, states) as painter:
            yield painter
        return
    visualizer = Visualizer(env, params, states)
    visualizer.init()
    if not hasattr(visualizer, "im"):
        raise ConfigError(f"--gif: gymnax has no picture of {env.name}")
    yield _Painter(visualizer.fig, visualizer.update, 10)


@contextmanager
def _own_painter(env: Any, states: Sequence[PyTree]) -> Iterator[_Painter]:
    """Pictures ``[H, W, 3]`` uint8 of an environment with a method ``picture(state)``."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 5))
    axes.set_axis_off()
    image = axes.imshow(env.picture(states[0]))
    yield _Painter(figure, lambda index: image.set_data(env.picture(states[index])), 10)


@contextmanager
def _gymnasium_painter(env: Any, params: PyTree, states: Sequence[PyTree]) -> Iterator[_Painter]:
    """Gymnasium's drawings of classic control, all by one simulator; gymnax would make one per frame."""
    if find_spec("pygame") is None:
        raise ConfigError(f"--gif: pictures of {env.name} need pygame, which is not installed: pip install pygame")
    # Drawing initialises all of pygame, which complains where there is no sound card and no screen.
    for driver in ("SDL_AUDIODRIVER", "SDL_VIDEODRIVER"):
        os.environ.setdefault(driver, "dummy")
    import gymnasium
    from gymnax.visualize import vis_gym
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 4))
    axes.set_axis_off()
    simulator = gymnasium.make(env.name, render_mode="rgb_array")
    try:
        simulator.reset()
        bare: Any = simulator.unwrapped
        vis_gym.set_gym_params(bare, env.name, params)
        images: list[Any] = []

        def paint(index: int) -> None:
            bare.state = vis_gym.get_gym_state(states[index], env.name)
            if env.name == "Pendulum-v1":
                bare.last_u = np.asarray(states[index].last_u, np.float64)
            picture: Any = simulator.render()
            if images:
                images[0].set_data(picture)
            else:
                images.append(axes.imshow(picture))

        yield _Painter(figure, paint, 50 if env.name == "CartPole-v1" else 25)
    finally:
        simulator.close()
