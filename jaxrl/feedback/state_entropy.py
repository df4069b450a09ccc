"""The reward of unsupervised pretraining: states that are far from others. Lee et al. 2021, PEBBLE, section 4.1.

Legend of shapes: M remembered states, D features.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.types import Array

NEIGHBOR = 5
"""k, of the k-th nearest neighbour."""

COMPARED = 512
"""M, the number of remembered states that a state is compared with."""


def state_entropy(features: Array, others: Array, filled: Any) -> Array:
    """``log(1 + ||s - s_k||)`` of each state, s_k its k-th nearest among the others: a particle estimate of entropy.

    Lee et al. 2021, "PEBBLE: feedback-efficient interactive reinforcement learning via relabeling experience and
    unsupervised pre-training", arXiv:2106.05091, equation 4, with 1 inside of the logarithm, so that it is at least 0.

    Args:
      features: ``[..., D]``, standardised.
      others: ``[M, D]``.
      filled: ``[M]`` bool, which of the others are states.

    >>> others = jnp.arange(6.0)[:, None]
    >>> state_entropy(jnp.zeros((1, 1)), others, jnp.ones(6, bool)).round(3).tolist()  # log(1 + 4)
    [1.6089999675750732]
    """
    flat = features.reshape(-1, features.shape[-1])
    apart = ((flat**2).sum(-1)[:, None] + (others**2).sum(-1)[None] - 2.0 * flat @ others.T).clip(0.0)
    nearest, _ = jax.lax.top_k(jnp.where(filled[None], -apart, -jnp.inf), min(NEIGHBOR, others.shape[0]))
    distance = jnp.sqrt(-nearest[:, -1])
    return jnp.log1p(jnp.where(jnp.isfinite(distance), distance, 0.0)).reshape(features.shape[:-1])
