"""From what environments show to what torsos take: float32 ``[N, ...]``."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl import types


def as_float(array: Any) -> jax.Array:
    """Float32; uint8, the dtype of pixels, is scaled from 0..255 to 0..1; bools and other integers keep their value."""
    floats = array.astype(jnp.float32)
    return floats / 255.0 if array.dtype == jnp.uint8 else floats


def network_input(features: jax.Array, goal: jax.Array | None, event_rank: int) -> jax.Array:
    """The float array that a torso is called on.

    Args:
      features: ``[..., *event]`` with any batch axes before the event.
      goal: ``[..., *goal]`` or None; it is flattened and laid beside the features.
      event_rank: the number of axes of one observation's features; a bare number (0) becomes a vector of one.

    Returns:
      ``[N, *event]``, N the product of the batch axes.

    Raises:
      ValueError: a goal beside features that are not a vector.
    """
    batch = features.shape[: features.ndim - event_rank]
    num = 1
    for axis in batch:
        num *= axis
    event = features.shape[len(batch) :] or (1,)
    inputs = as_float(features).reshape(num, *event)
    if goal is None:
        return inputs
    if event_rank > 1:
        raise ValueError(f"observation.goal: goals go beside vector features only, the features have {event_rank} axes")
    return jnp.concatenate([inputs, as_float(goal).reshape(num, -1)], axis=-1)


def observation_input(observation: Any, event_rank: int) -> tuple[jax.Array, jax.Array | None]:
    """What a network reads of an observation: ``network_input`` of its features and goal, and its action mask.

    Args:
      observation: an array or an ``Observation``, with any batch axes.
      event_rank: the number of axes of one observation's features.

    Returns:
      ``(x [N, *event], mask [N, A])``; the mask is None where every action is legal.
    """
    goal = observation.goal if isinstance(observation, types.Observation) else None
    x, mask = network_input(types.features(observation), goal, event_rank), types.action_mask(observation)
    return x, None if mask is None else mask.reshape(x.shape[0], -1)


def torso_features(torso: nn.Module, x: jax.Array) -> jax.Array:
    """The features ``[N, D]`` of a torso, checked.

    Raises:
      ValueError: a torso that gives something else.
    """
    features = torso(x)
    shape = getattr(features, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != x.shape[0]:
        gave = f"a {type(features).__name__}" if shape is None else shape
        raise ValueError(f"torso: must give features [N, D], N = {x.shape[0]}; {type(torso).__name__} gave {gave}")
    return features


def event_rank(observation_spec: Any) -> int:
    """The number of axes of one observation's features, from ``spec.observation``."""
    return len(types.features(observation_spec).shape)
