"""Q-transforms: q-values made comparable to what they are added to. Functions of ``NodeStats``."""

from __future__ import annotations

import jax.numpy as jnp

from jaxrl.search.base import NodeStats
from jaxrl.types import Array


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
    value = node.value[..., None]
    known = jnp.where(visited, node.children_qvalues, value)
    low = jnp.min(known, axis=-1, keepdims=True)
    high = jnp.max(known, axis=-1, keepdims=True)
    low, high = jnp.minimum(low, value), jnp.maximum(high, value)
    return jnp.where(visited, node.children_qvalues - low, 0.0) / jnp.maximum(high - low, epsilon)


def by_min_max(node: NodeStats, *, min_value: float, max_value: float) -> Array:
    """``(q - min_value) / (max_value - min_value)``; unvisited actions get 0.

    Args:
      node: nodes ``[...]``.
      min_value: the least that a q-value can be.
      max_value: the most.

    Returns:
      ``[..., A]``.
    """
    return jnp.where(node.children_visits > 0, node.children_qvalues - min_value, 0.0) / (max_value - min_value)


def completed_by_mix_value(
    node: NodeStats,
    *,
    value_scale: float = 0.1,
    maxvisit_init: float = 50.0,
    rescale_values: bool = True,
    use_mixed_value: bool = True,
    epsilon: float = 1e-8,
) -> Array:
    """``(maxvisit_init + max_b N(b)) value_scale q``, of q completed by the mixed value and rescaled to [0, 1].

    Unvisited actions get ``v_mix = (v + sum_b N(b) sum_visited pi(b) q(b) / sum_visited pi(b)) / (1 + sum_b N(b))``.
    Danihelka et al., "Policy improvement by planning with Gumbel", 2022, appendix D,
    https://openreview.net/forum?id=bERaNdoegnO; mctx's ``qtransform_completed_by_mix_value``.

    Args:
      node: nodes ``[...]``.
      value_scale: the scale of q beside logits.
      maxvisit_init: what the scale starts from, in visits.
      rescale_values: whether q goes to [0, 1] by its own least and most.
      use_mixed_value: whether to complete by v_mix or by v.
      epsilon: the smallest denominator.

    Returns:
      ``[..., A]``.
    """
    visits, qvalues = node.children_visits, node.children_qvalues
    value = mixed_value(node) if use_mixed_value else node.raw_value
    completed = jnp.where(visits > 0, qvalues, value[..., None])
    if rescale_values:
        low = jnp.min(completed, axis=-1, keepdims=True)
        high = jnp.max(completed, axis=-1, keepdims=True)
        completed = (completed - low) / jnp.maximum(high - low, epsilon)
    scale = maxvisit_init + jnp.max(visits, axis=-1, keepdims=True)
    return scale * value_scale * completed


def mixed_value(node: NodeStats) -> Array:
    """The value ``[...]`` of a node from what the model said and the q-values of its visited actions, see above."""
    visited = node.children_visits > 0
    total = jnp.sum(node.children_visits, axis=-1)
    # A visited action may have no probability left in float32; the weights must not become 0 / 0.
    weight = jnp.where(visited, jnp.maximum(node.prior_probs, jnp.finfo(node.prior_probs.dtype).tiny), 0.0)
    weighted = jnp.sum(weight * node.children_qvalues, axis=-1)
    weight_sum = jnp.sum(weight, axis=-1)
    mean = weighted / jnp.where(total > 0, weight_sum, 1.0)
    return (node.raw_value + total * mean) / (total + 1)
