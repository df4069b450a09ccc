"""Converts observations of environments to inputs of torsos, ``[N, *event]`` in the environment's dtype.

The torsos of this package convert their input by ``as_float``. A custom torso gets integers as integers, so that it can
embed them: ``nn.Embed(num_tokens, width)(x)``.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl import types


def as_float(array: Any) -> jax.Array:
    """Converts to float32; uint8 (pixels) is scaled from 0..255 to 0..1, bools and other integers keep their value."""
    floats = array.astype(jnp.float32)
    return floats / 255.0 if array.dtype == jnp.uint8 else floats


def flatten_batch(x: jax.Array, event_rank: int) -> tuple[jax.Array, tuple[int, ...]]:
    """``[..., *event]`` as ``[N, *event]``, and the leading axes.

    Args:
      x: with any leading axes.
      event_rank: the number of axes of one event.
    """
    batch = x.shape[: x.ndim - event_rank]
    return x.reshape(math.prod(batch), *x.shape[len(batch) :]), batch


def network_input(features: jax.Array, goal: jax.Array | None, event_rank: int) -> jax.Array:
    """The input of a torso, in the environment's dtype.

    A goal is concatenated with the features, and both are converted by ``as_float`` where their dtypes differ.

    Args:
      features: ``[..., *event]`` with any leading axes.
      goal: ``[..., *goal]`` or None; it is flattened and concatenated with the features.
      event_rank: the number of axes of one observation's features; a scalar (0) becomes a vector of one number.

    Returns:
      ``[N, *event]``, N the product of the leading axes.

    Raises:
      ValueError: there is a goal, and features are not vectors.
    """
    x, _ = flatten_batch(features, event_rank)
    x = x.reshape(-1, 1) if event_rank == 0 else x
    if goal is None:
        return x
    if event_rank > 1:
        raise ValueError(
            f"observation.features: got {event_rank} axes together with a goal, must be vectors; flatten them with "
            "envs.wrappers.flatten_observation"
        )
    if goal.dtype != x.dtype:
        x, goal = as_float(x), as_float(goal)
    return jnp.concatenate([x, goal.reshape(x.shape[0], -1)], axis=-1)


class Input(NamedTuple):
    """The inputs of a network from an observation.

    Attributes:
      x: ``[N, *event]`` input of the torso.
      mask: ``[..., A]`` the legal actions; None where every action is legal.
      batch: the leading axes of the observation, whose product is N.
    """

    x: jax.Array
    mask: jax.Array | None
    batch: tuple[int, ...]


def observation_input(observation: Any, event_rank: int) -> Input:
    """The network's input: ``network_input`` of features and goal, the action mask, and the leading axes.

    Args:
      observation: an array or an ``Observation``, with any leading axes.
      event_rank: the number of axes of one observation's features.
    """
    goal = observation.goal if isinstance(observation, types.Observation) else None
    features = types.features(observation)
    batch = features.shape[: features.ndim - event_rank]
    return Input(network_input(features, goal, event_rank), types.action_mask(observation), batch)


def torso_tokens(torso: nn.Module, given: Input) -> jax.Array:
    """The features ``[..., *own, D]`` of a torso, with the leading axes of the observation and the torso's own axes.

    A torso maps ``[N, *event]`` to ``[N, D]``, or to ``[N, *own, D]`` with axes of its own: the tokens of a sequence
    ``[N, L, D]``, the places of an image ``[N, H, W, D]``.

    Raises:
      ValueError: the torso returned another shape.
    """
    features = torso(given.x)
    shape: tuple[int, ...] = getattr(features, "shape", ())
    if len(shape) < 2 or shape[0] != given.x.shape[0]:
        found = list(shape) if hasattr(features, "shape") else f"a {type(features).__name__}"
        raise ValueError(
            f"torso: got {found} from {type(torso).__name__}, must be features [N, D], or [N, ..., D] with axes of its "
            f"own, N = {given.x.shape[0]}"
        )
    return features.reshape(*given.batch, *shape[1:])


def pooled(tokens: jax.Array, batch_rank: int) -> jax.Array:
    """One feature vector per observation, ``[..., D]``: the mean over the torso's own axes, if it has any.

    Args:
      tokens: ``[..., *own, D]``.
      batch_rank: the number of leading axes.
    """
    own = tuple(range(batch_rank, tokens.ndim - 1))
    return tokens.mean(axis=own) if own else tokens


def torso_features(torso: nn.Module, given: Input) -> jax.Array:
    """The features ``[..., D]`` of a torso, averaged over its own axes; see ``torso_tokens`` and ``pooled``."""
    return pooled(torso_tokens(torso, given), len(given.batch))


def event_rank(observation_spec: Any) -> int:
    """The number of axes of one observation's features, from ``spec.observation``."""
    return len(types.features(observation_spec).shape)
