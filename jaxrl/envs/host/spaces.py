"""Converts Gymnasium's spaces to the interface of agents: dtypes, images, goals, actions that start at 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxrl.envs.host.env import Interface
from jaxrl.types import Box, Discrete, Observation

GOALS = frozenset({"observation", "achieved_goal", "desired_goal"})
"""The parts of an observation with a goal, with the names of Gymnasium-Robotics."""


def interface(name: str, observation: Any, action: Any, *, channels_first: bool = False) -> Interface:
    """The interface of an environment with Gymnasium's spaces.

    Floats become float32. A ``Dict`` with a goal becomes ``Observation(features, goal, achieved_goal)``. Images become
    ``[H, W, C]``, and actions count from 0.

    Args:
      name: name for messages.
      observation: the space of one observation.
      action: the space of one action.
      channels_first: whether images are ``[C, H, W]``.

    Raises:
      ValueError: the space is not supported.
    """
    seen, observe = _observations(name, observation, channels_first)
    taken, act = _actions(name, action)
    number = int(observation.n) if _kind(observation) == "Discrete" else None
    return Interface(seen, taken, observe, act, isinstance(seen, Observation), number)


def _observations(name: str, space: Any, channels_first: bool) -> tuple[Any, Callable[[Any], Any]]:
    if _kind(space) == "Dict":
        spaces = dict(space.spaces)
        if set(spaces) != GOALS:
            raise ValueError(
                f"{name}: got observations in a Dict of {', '.join(spaces)}, must have the parts "
                f"{', '.join(sorted(GOALS))}; flatten other Dicts with gymnasium.wrappers.FlattenObservation"
            )
        parts = {part: _observations(name, inner, channels_first) for part, inner in spaces.items()}
        order = ("observation", "desired_goal", "achieved_goal")
        features, goal, achieved = (parts[part] for part in order)

        def observe(raw: Any) -> Observation:
            return Observation(
                features[1](raw["observation"]),
                goal=goal[1](raw["desired_goal"]),
                achieved_goal=achieved[1](raw["achieved_goal"]),
            )

        return Observation(features[0], goal=goal[0], achieved_goal=achieved[0]), observe
    if _kind(space) == "Discrete":
        start = int(getattr(space, "start", 0))
        return jax.ShapeDtypeStruct((), jnp.int32), lambda raw: np.asarray(raw, np.int32) - start
    if _kind(space) not in ("Box", "MultiBinary"):
        raise ValueError(
            f"{name}: got observations in a {_kind(space)}, must be a Box, Discrete, or a Dict with a goal"
        )
    dtype = np.dtype(np.float32) if np.issubdtype(space.dtype, np.floating) else np.dtype(space.dtype)
    dtype = np.dtype(np.int32) if dtype == np.int64 else dtype
    shape = tuple(space.shape)
    if channels_first and len(shape) == 3:
        return jax.ShapeDtypeStruct((*shape[1:], shape[0]), dtype), lambda raw: np.moveaxis(np.asarray(raw), 1, -1)
    return jax.ShapeDtypeStruct(shape, dtype), np.asarray


def _actions(name: str, space: Any) -> tuple[Discrete | Box, Callable[[NDArray[Any]], NDArray[Any]]]:
    if _kind(space) == "Discrete":
        start = int(getattr(space, "start", 0))
        return Discrete(int(space.n)), lambda action: action + start
    if _kind(space) == "Box" and np.issubdtype(space.dtype, np.floating):
        low, high = (np.asarray(bound, np.float32) for bound in (space.low, space.high))
        return Box(tuple(space.shape), low, high), lambda action: np.asarray(action, space.dtype)
    raise ValueError(
        f"{name}: got actions in a {_kind(space)} of {space.dtype}, must be Discrete or a Box of floats; flatten them "
        "in a wrapper"
    )


def _kind(space: Any) -> str:
    """The name of a space's class, which identifies envpool's and Gym's spaces too."""
    known = ("Dict", "Discrete", "MultiDiscrete", "MultiBinary", "Box", "Tuple")
    names = [cls.__name__ for cls in type(space).__mro__]
    return next((name for name in names if name in known), names[0])
