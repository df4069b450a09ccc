"""``Adapted`` makes an environment of two functions of a suite: one that starts an episode, one that takes a step.

The suites' own automatic resets are not used, since some drop the final observation and some insert a dummy step. Here
every suite resets in the same step, and terminations and truncations are separate.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.envs.games.pgx_games import NotInstalled
from jaxrl.envs.wrappers import StepResult, select
from jaxrl.types import Array, Box, Discrete, PyTree

NO_LIMIT = 1_000_000
"""The time limit of an environment that declares none."""


class AdaptedParams(NamedTuple):
    """Parameters of an environment.

    Attributes:
      max_steps_in_episode: steps after which an episode is truncated, unless the suite's own limit is shorter.
    """

    max_steps_in_episode: Any


class AdaptedState(NamedTuple):
    """The state of an environment: the suite's own state, and the number of steps in this episode."""

    inner: PyTree
    time: Array


class Moved(NamedTuple):
    """The result of a step of the suite, before any reset.

    Attributes:
      inner: the suite's state.
      observation: the true next observation.
      reward: scalar.
      terminated: scalar bool.
      truncated: scalar bool, by the suite's own limit.
    """

    inner: PyTree
    observation: Any
    reward: Array
    terminated: Any
    truncated: Any = False


Start = Callable[[Array], tuple[Any, PyTree]]
"""``(key) -> (observation, inner state)``."""

Move = Callable[[Array, PyTree, Array], Moved]
"""``(key, inner state, action) -> moved``, without a reset."""


class Adapted:
    """An environment of another suite in JAX, in gymnax's protocol.

    Attributes:
      name: the name with its prefix, as ``make`` takes it.
      inner: the suite's environment, for example to draw ``state.inner``.
    """

    def __init__(
        self, name: str, inner: Any, start: Start, move: Move, action: Discrete | Box, max_steps_in_episode: int
    ) -> None:
        self.name, self.inner = name, inner
        self._start, self._move, self._action = start, move, action
        self.default_params = AdaptedParams(max_steps_in_episode)

    def action_space(self, params: PyTree = None) -> Discrete | Box:
        """The actions."""
        return self._action

    def reset(self, key: Array, params: PyTree = None) -> tuple[Any, AdaptedState]:
        """Starts an episode."""
        with jax.numpy_rank_promotion("allow"):
            observation, inner = self._start(key)
        return jax.tree.map(jnp.asarray, (observation, AdaptedState(inner, jnp.zeros((), jnp.int32))))

    def step(self, key: Array, state: AdaptedState, action: Array, params: PyTree = None) -> StepResult:
        """Takes a step, and resets at the end of an episode."""
        limit = (self.default_params if params is None else params).max_steps_in_episode
        step_key, reset_key = jax.random.split(key)
        with jax.numpy_rank_promotion("allow"):
            moved = self._move(step_key, state.inner, action)
        fresh = self.reset(reset_key, params)
        time = state.time + 1
        # Some suites return other dtypes from a step than from a reset.
        final, after = jax.tree.map(_like, fresh, (moved.observation, AdaptedState(moved.inner, time)))
        terminated = jnp.asarray(moved.terminated, bool)
        truncated = (jnp.asarray(moved.truncated, bool) | (time >= limit)) & ~terminated
        observation, state = select(terminated | truncated, fresh, (final, after))
        info = {"final_observation": final, "discount": 1.0 - terminated.astype(jnp.float32)}
        return observation, state, jnp.asarray(moved.reward, jnp.float32), terminated, truncated, info


def _like(wanted: Array, given: Any) -> Array:
    given = jnp.asarray(given)
    return given if given.dtype == wanted.dtype else given.astype(wanted.dtype)


def imported(package: str, extra: str, name: str) -> Any:
    """Imports a package that an environment needs.

    Raises:
      NotInstalled: it is missing; the message has the command that installs it.
    """
    try:
        # Arrays that a module makes when it is imported must not be tracers if that happens inside of a trace.
        with jax.ensure_compile_time_eval():
            return importlib.import_module(package)
    except ImportError as error:
        raise NotInstalled(f'"{name}": {package} is not installed; pip install "jaxrl[{extra}]"') from error
