"""Q-transforms scale q-values to the scale of the term they are added to. They are functions of ``NodeStats``."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxrl.ops import numerics
from jaxrl.search.base import NodeStats
from jaxrl.types import Array

SCALE = 1.0 / 16.0
"""Q-values are scaled before they are subtracted: differences of the largest numbers would overflow, and reciprocals of
differences near them would be flushed to 0. Scaling by a power of two is exact."""


def by_parent_and_siblings(node: NodeStats, *, epsilon: float = 1e-8) -> Array:
    """``(q - min) / (max - min)`` over the q-values of a node and its own value; unvisited actions get 0.

    Schrittwieser et al., "Mastering Atari, Go, chess and shogi by planning with a learned model", 2020, appendix B,
    https://arxiv.org/abs/1911.08265; mctx's ``qtransform_by_parent_and_siblings``.

    Args:
      node: nodes ``[...]``.
      epsilon: the smallest denominator.

    Returns:
      ``[..., A]`` in [0, 1].
    """
    visited = node.children_visits > 0
    value, qvalues = SCALE * node.value[..., None], SCALE * node.children_qvalues
    known = jnp.where(visited, qvalues, value)
    low = jnp.min(known, axis=-1, keepdims=True)
    high = jnp.max(known, axis=-1, keepdims=True)
    low, high = jnp.minimum(low, value), jnp.maximum(high, value)
    return jnp.where(visited, qvalues - low, 0.0) / jnp.maximum(high - low, _scaled(epsilon, known))


def by_min_max(node: NodeStats, *, min_value: float, max_value: float) -> Array:
    """``(q - min_value) / (max_value - min_value)``; unvisited actions get 0.

    Args:
      node: nodes ``[...]``.
      min_value: the smallest possible q-value.
      max_value: the largest possible q-value.

    Returns:
      ``[..., A]``.
    """
    low, high = SCALE * min_value, SCALE * max_value
    return jnp.where(node.children_visits > 0, SCALE * node.children_qvalues - low, 0.0) / (high - low)


def completed_by_mix_value(
    node: NodeStats,
    *,
    value_scale: float = 0.1,
    maxvisit_init: float = 50.0,
    rescale_values: bool = True,
    use_mixed_value: bool = True,
    epsilon: float = 1e-8,
) -> Array:
    """``(maxvisit_init + max_b N(b)) value_scale q``, with q completed by the mixed value and rescaled to [0, 1].

    Unvisited actions get ``v_mix = (v + sum_b N(b) sum_visited pi(b) q(b) / sum_visited pi(b)) / (1 + sum_b N(b))``.
    Danihelka et al., "Policy improvement by planning with Gumbel", 2022, appendix D,
    https://openreview.net/forum?id=bERaNdoegnO; mctx's ``qtransform_completed_by_mix_value``.

    Args:
      node: nodes ``[...]``.
      value_scale: the scale of q beside the logits.
      maxvisit_init: a constant added to the largest number of visits.
      rescale_values: whether to rescale q to [0, 1] by its own minimum and maximum.
      use_mixed_value: whether to complete by v_mix or by the predicted value v.
      epsilon: the smallest denominator.

    Returns:
      ``[..., A]``.
    """
    visits, qvalues = node.children_visits, node.children_qvalues
    value = mixed_value(node) if use_mixed_value else node.raw_value
    completed = jnp.where(visits > 0, qvalues, value[..., None])
    if rescale_values:
        completed = SCALE * completed
        low = jnp.min(completed, axis=-1, keepdims=True)
        high = jnp.max(completed, axis=-1, keepdims=True)
        completed = (completed - low) / jnp.maximum(high - low, _scaled(epsilon, completed))
    scale = maxvisit_init + jnp.max(visits, axis=-1, keepdims=True)
    return scale * value_scale * completed


def _scaled(epsilon: Any, x: Array) -> Array:
    """The smallest denominator, scaled, and above 0 in the dtype of ``x``."""
    return numerics.positive(SCALE * epsilon, x.dtype)


def mixed_value(node: NodeStats) -> Array:
    """The mixed value ``v_mix`` ``[...]`` of a node: the predicted value and the q-values of its visited actions."""
    visited = node.children_visits > 0
    total = jnp.sum(node.children_visits, axis=-1)
    # The sum over visits can exceed the range of half precision.
    dtype, wide = node.raw_value.dtype, numerics.wide(node.raw_value)
    # The probability of a visited action can underflow in float32; the weights must not become 0 / 0.
    probs = node.prior_probs.astype(wide)
    weight = jnp.where(visited, jnp.maximum(probs, jnp.finfo(wide).tiny), 0.0)
    weighted = jnp.sum(weight * node.children_qvalues, axis=-1)
    weight_sum = jnp.sum(weight, axis=-1)
    mean = weighted / jnp.where(total > 0, weight_sum, 1.0)
    return ((node.raw_value + total * mean) / (total + 1)).astype(dtype)


__all__ = ["SCALE", "by_min_max", "by_parent_and_siblings", "completed_by_mix_value", "mixed_value"]


def __dir__() -> list[str]:
    return sorted(__all__)
