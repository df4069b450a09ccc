"""The Bradley-Terry model of comparisons. Bradley and Terry 1952; with noise as in Christiano et al. 2017.

A label is the preference for the first of two alternatives: 1 for the first, 0 for the second, 1/2 for a tie.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.types import Array


def log_probability(gap: Array, noise: Any = 0.0) -> Array:
    """``log P(first preferred)``, where ``P = (1 - noise) sigmoid(gap) + noise / 2``.

    Christiano et al. 2017, section 2.2.3, assume that a person answers at random in 10% of comparisons, so that no
    probability exceeds 0.95.

    Args:
      gap: the return of the first minus that of the second, any shape.
      noise: fraction of answers that are uniformly random, in [0, 1].

    >>> jnp.exp(log_probability(jnp.array([-100.0, 0.0, 100.0]), 0.1)).round(3).tolist()
    [0.05000000074505806, 0.5, 0.949999988079071]
    """
    share = jnp.asarray(noise, gap.dtype)
    return jnp.logaddexp(jnp.log1p(-share) + jax.nn.log_sigmoid(gap), jnp.log(0.5 * share))


def cross_entropy(gap: Array, label: Array, noise: Any = 0.0) -> Array:
    """``-(label log P(first) + (1 - label) log P(second))``; a tie counts half for each.

    Args:
      gap: the return of the first minus that of the second, any shape.
      label: of the same shape, in [0, 1].
      noise: see ``log_probability``.
    """
    return -(label * log_probability(gap, noise) + (1.0 - label) * log_probability(-gap, noise))


def entropy(probability: Array) -> Array:
    """The entropy in nats of a comparison whose first alternative is preferred with a probability."""
    return jax.scipy.special.entr(probability) + jax.scipy.special.entr(1.0 - probability)
