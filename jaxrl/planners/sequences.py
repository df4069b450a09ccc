"""Sequences of continuous or discrete actions as numbers ``[H, K]``.

A continuous action is D numbers in units of the bounds, [-1, 1], or the action itself where it has no bounds. A
discrete action is A logits. Zeros are the middle of the bounds, or uniform probabilities.

Legend of shapes: N candidates, H steps, K numbers per step (D or A).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array, Box, Discrete

_LEAST = 1e-8
"""The smallest probability of a logit."""


def size(space: Discrete | Box) -> int:
    """K."""
    return space.num_actions if isinstance(space, Discrete) else math.prod(space.shape)


def decide(space: Discrete | Box, scores: Array, mask: Array) -> Array:
    """The action of one step, in the environment's units.

    Args:
      space: action space.
      scores: ``[K]``; for discrete actions the highest legal score is taken.
      mask: ``[A]`` bool; ignored for continuous actions.
    """
    if isinstance(space, Discrete):
        return jnp.where(mask, scores, -jnp.inf).argmax().astype(jnp.int32)
    return space.from_unit(scores.reshape(space.shape))


def limit(space: Box) -> Array:
    """``[K]``, the largest absolute value of an action: 1 where it has bounds, else infinite."""
    with np.errstate(over="ignore"):
        low, high = (jnp.broadcast_to(jnp.asarray(x, jnp.float32), space.shape) for x in (space.low, space.high))
    return jnp.where(jnp.isfinite(low) & jnp.isfinite(high), 1.0, jnp.inf).reshape(-1)


def propose(key: Array, space: Discrete | Box, sequence: Array, spread: Array, population: int) -> Array:
    """Samples candidates ``[N, H, K]`` around a sequence.

    Args:
      key: consumed.
      space: action space.
      sequence: ``[H, K]``.
      spread: ``[H, K]``, standard deviation of Gaussian noise, whose sum with the sequence is clipped to the bounds;
        for discrete actions the fraction of uniform ones.
      population: N.
    """
    shape = (population, *sequence.shape)
    if isinstance(space, Discrete):
        share = jnp.clip(spread, 0.0, 1.0)
        mixed = (1.0 - share) * jax.nn.softmax(sequence) + share / space.num_actions
        # The argmax of logits plus Gumbel noise is a sample, also among legal actions only.
        return logits(mixed)[None] + jax.random.gumbel(key, shape, jnp.float32)
    edge = limit(space)[None, None]
    return jnp.clip(sequence[None] + spread[None] * jax.random.normal(key, shape, jnp.float32), -edge, edge)


def uniform(key: Array, space: Discrete | Box, horizon: int, population: int) -> Array:
    """Candidates ``[N, H, K]`` sampled uniformly, or from a standard normal where actions have no bounds."""
    shape = (population, horizon, size(space))
    if isinstance(space, Discrete):
        return jax.random.gumbel(key, shape, jnp.float32)
    uniform_key, normal_key = jax.random.split(key)
    inside = jax.random.uniform(uniform_key, shape, jnp.float32, -1.0, 1.0)
    return jnp.where(jnp.isfinite(limit(space))[None, None], inside, jax.random.normal(normal_key, shape, jnp.float32))


def mean(space: Discrete | Box, taken: Array, weights: Array) -> Array:
    """The weighted mean ``[H, K]`` of the candidates' actions, or the weighted frequencies of discrete actions.

    Args:
      space: action space.
      taken: ``[N, H, K]``, one-hot for discrete actions.
      weights: ``[N]``, which sum to one.
    """
    return jnp.tensordot(weights, taken, axes=1)


def blend(space: Discrete | Box, old: Array, new: Array, alpha: Any) -> Array:
    """``alpha old + (1 - alpha) new``, ``[H, K]``, for discrete actions in probabilities.

    Args:
      space: action space.
      old: a sequence.
      new: result of ``mean``.
      alpha: weight of the old sequence.
    """
    if isinstance(space, Discrete):
        return logits(alpha * jax.nn.softmax(old) + (1.0 - alpha) * new)
    return alpha * old + (1.0 - alpha) * new


def logits(probabilities: Array) -> Array:
    """Finite logits of probabilities, which may be 0."""
    return jnp.log(jnp.maximum(probabilities, _LEAST))
