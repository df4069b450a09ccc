"""Selection rules score the actions of a node. They are functions of ``NodeStats``."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.ops import numerics
from jaxrl.search import qtransforms
from jaxrl.search.base import NodeStats, QTransform
from jaxrl.types import Array

# In float32 the noise is so small that it decides ties only.
TIE_NOISE = 1e-7


def puct_score(
    node: NodeStats,
    *,
    pb_c_init: Any = 1.25,
    pb_c_base: Any = 19652.0,
    qtransform: QTransform = qtransforms.by_parent_and_siblings,
) -> Array:
    """``q + pi(a) sqrt(n) / (1 + n(a)) (c_init + log((n + c_base + 1) / c_base))``.

    Schrittwieser et al., 2020, appendix B, https://arxiv.org/abs/1911.08265. The noise that the search mixes into
    ``prior_probs`` breaks ties.

    Args:
      node: nodes ``[...]``.
      pb_c_init: the initial weight of the prior.
      pb_c_base: the number of visits over which that weight grows.
      qtransform: scales q-values to [0, 1].

    Returns:
      ``[..., A]``.
    """
    visits = node.visits.astype(node.value.dtype)
    weight = jnp.sqrt(visits) * (pb_c_init + jnp.log((visits + pb_c_base + 1.0) / pb_c_base))
    policy_score = weight[..., None] * node.prior_probs / (node.children_visits + 1)
    return qtransform(node) + policy_score


def uct_score(node: NodeStats, *, exploration: Any = 2.0**0.5) -> Array:
    """``q + exploration sqrt(log n / n(a))``; unvisited actions come first.

    Kocsis and Szepesvari, "Bandit based Monte-Carlo planning", 2006, after Auer et al.'s UCB1. n is the total number of
    visits of all actions.

    Args:
      node: nodes ``[...]``.
      exploration: the exploration constant; sqrt(2) suits returns within a range of 1.

    Returns:
      ``[..., A]``.
    """
    visits = node.children_visits.astype(node.value.dtype)
    total = jnp.maximum(jnp.sum(visits, axis=-1, keepdims=True), 1.0)
    bonus = exploration * jnp.sqrt(jnp.log(total) / jnp.maximum(visits, 1.0))
    # Above every score, with room for the noise to order the unvisited actions.
    highest = float(jnp.finfo(visits.dtype).max)
    first = highest / 4 * (1.0 + node.noise)
    noise = numerics.tie_noise(TIE_NOISE, visits.dtype) * node.noise
    return jnp.where(visits > 0, jnp.minimum(node.children_qvalues + bonus + noise, highest / 8), first)


def gumbel_score(node: NodeStats, *, qtransform: QTransform = qtransforms.completed_by_mix_value) -> Array:
    """``pi'(a) - n(a) / (1 + sum_b n(b))`` with the improved policy ``pi' = softmax(logits + q)``.

    An action chosen repeatedly by this score is visited in proportion to pi'. Danihelka et al., 2022, section 5,
    https://openreview.net/forum?id=bERaNdoegnO.

    Args:
      node: nodes ``[...]``.
      qtransform: completes the q-values and scales them to be added to logits.

    Returns:
      ``[..., A]``.
    """
    visits = node.children_visits.astype(node.value.dtype)
    improved = jax.nn.softmax(node.prior_logits + qtransform(node), axis=-1)
    return improved - visits / (1.0 + jnp.sum(visits, axis=-1, keepdims=True))


def considered_score(
    node: NodeStats, visits: Array, gumbel: Array, qtransform: QTransform, considered_visits: Array
) -> Array:
    """``gumbel + logits + q`` for the actions that have the considered number of visits, -inf for the others.

    Args:
      node: nodes ``[...]``.
      visits: ``[..., A]``, the visits of the actions in this search.
      gumbel: ``[..., A]``, the Gumbel noise.
      qtransform: completes the q-values and scales them to be added to logits.
      considered_visits: ``[...]``, the number of visits that the next action must have.

    Returns:
      ``[..., A]``.
    """
    logits = node.prior_logits - jnp.max(node.prior_logits, axis=-1, keepdims=True)
    # The only considered action may be followed even if its logit is the lowest number.
    score = gumbel + logits + qtransform(node)
    score = jnp.maximum(jnp.finfo(score.dtype).min, score)
    return jnp.where(visits == considered_visits[..., None], score, -jnp.inf)


__all__ = ["TIE_NOISE", "considered_score", "gumbel_score", "puct_score", "uct_score"]


def __dir__() -> list[str]:
    return sorted(__all__)
