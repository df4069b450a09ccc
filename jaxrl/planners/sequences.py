"""Sequences of actions as numbers ``[H, K]``, of continuous and of discrete actions, with one set of functions.

A continuous action is D numbers in units of the bounds, [-1, 1], or its own numbers where it has no bounds. A discrete
action is A logits. Zeros are the middle of the bounds, or all actions alike: a plan that knows nothing.

Legend of shapes: N candidates, H steps, K numbers of a step (D or A).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array, Box, Discrete

_LEAST = 1e-8
"""The least probability that a logit stands for."""


def size(space: Discrete | Box) -> int:
    """K."""
    return space.num_actions if isinstance(space, Discrete) else math.prod(space.shape)


def decide(space: Discrete | Box, scores: Array, mask: Array) -> Array:
    """The action of one step, as the environment takes it.

    Args:
      space: of the actions.
      scores: ``[K]``; of discrete actions the highest legal one is taken.
      mask: ``[A]`` bool; not read where actions are continuous.
    """
    if isinstance(space, Discrete):
        return jnp.where(mask, scores, -jnp.inf).argmax().astype(jnp.int32)
    return space.from_unit(scores.reshape(space.shape))


def limit(space: Box) -> Array:
    """``[K]``, how far an action may be from 0: 1 where it has bounds, else infinite."""
    with np.errstate(over="ignore"):
        low, high = (jnp.broadcast_to(jnp.asarray(x, jnp.float32), space.shape) for x in (space.low, space.high))
    return jnp.where(jnp.isfinite(low) & jnp.isfinite(high), 1.0, jnp.inf).reshape(-1)


def propose(key: Array, space: Discrete | Box, sequence: Array, spread: Array, population: int) -> Array:
    """Candidates ``[N, H, K]`` around a sequence.

    Args:
      key: consumed.
      space: of the actions.
      sequence: ``[H, K]``.
      spread: ``[H, K]``, the standard deviation of Gaussian noise, clipped to the bounds; of discrete actions the share
        of uniformly drawn ones.
      population: N.
    """
    shape = (population, *sequence.shape)
    if isinstance(space, Discrete):
        share = jnp.clip(spread, 0.0, 1.0)
        mixed = (1.0 - share) * jax.nn.softmax(sequence) + share / space.num_actions
        # The highest of logits and Gumbel noise is a sample, of the legal actions alone where others are left out.
        return logits(mixed)[None] + jax.random.gumbel(key, shape, jnp.float32)
    edge = limit(space)[None, None]
    return jnp.clip(sequence[None] + spread[None] * jax.random.normal(key, shape, jnp.float32), -edge, edge)


def uniform(key: Array, space: Discrete | Box, horizon: int, population: int) -> Array:
    """Candidates ``[N, H, K]`` drawn uniformly; a standard normal where actions have no bounds."""
    shape = (population, horizon, size(space))
    if isinstance(space, Discrete):
        return jax.random.gumbel(key, shape, jnp.float32)
    uniform_key, normal_key = jax.random.split(key)
    inside = jax.random.uniform(uniform_key, shape, jnp.float32, -1.0, 1.0)
    return jnp.where(jnp.isfinite(limit(space))[None, None], inside, jax.random.normal(normal_key, shape, jnp.float32))


def mean(space: Discrete | Box, taken: Array, weights: Array) -> Array:
    """The weighted mean ``[H, K]`` of what candidates did: of actions, or how often each discrete one was taken.

    Args:
      space: of the actions.
      taken: ``[N, H, K]``, one-hot for discrete actions.
      weights: ``[N]`` of sum one.
    """
    return jnp.tensordot(weights, taken, axes=1)


def blend(space: Discrete | Box, old: Array, new: Array, alpha: Any) -> Array:
    """``alpha old + (1 - alpha) new``, ``[H, K]``: of sequences, of discrete actions in probabilities.

    Args:
      space: of the actions.
      old: a sequence.
      new: as ``mean`` gives it.
      alpha: the share of the old one.
    """
    if isinstance(space, Discrete):
        return logits(alpha * jax.nn.softmax(old) + (1.0 - alpha) * new)
    return alpha * old + (1.0 - alpha) * new


def logits(probabilities: Array) -> Array:
    """Finite logits, of probabilities that may be 0."""
    return jnp.log(jnp.maximum(probabilities, _LEAST))
