"""Losses on pairs of answers to one prompt, one of which is preferred. One number per pair; the caller takes the mean.

A log-ratio is ``log pi(y|x) - log pi_ref(y|x)`` of a whole text: the sum over its own tokens.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array


def dpo_term(chosen: Array, rejected: Array, beta: Any) -> Array:
    """Direct preference optimisation: ``-log sigma(beta (h_chosen - h_rejected))``, h the log-ratios.

    It is ``log 2`` at pi = pi_ref. Rafailov et al. 2023, arXiv:2305.18290, eq. 7.

    Args:
      chosen: ``[...]``, log-ratios of the preferred texts.
      rejected: ``[...]``, log-ratios of the others.
      beta: scalar, the weight of the KL divergence in the objective that is solved.

    >>> f"{dpo_term(jnp.zeros(()), jnp.zeros(()), 0.1):.6f}"
    '0.693147'
    """
    return jax.nn.softplus(-beta * (chosen - rejected)).astype(chosen.dtype)


def ipo_term(chosen: Array, rejected: Array, beta: Any) -> Array:
    """Identity preference optimisation: ``(h_chosen - h_rejected - 1 / (2 beta))^2``, h the log-ratios.

    It stays bounded where a preference is certain, where DPO's log-ratios grow without end. Azar et al. 2023,
    arXiv:2310.12036, eq. 17, with beta for their tau.

    Args:
      chosen: ``[...]``, log-ratios of the preferred texts.
      rejected: ``[...]``, log-ratios of the others.
      beta: scalar, positive.

    >>> ipo_term(jnp.float32(5.0), jnp.float32(0.0), 0.1).item()
    0.0
    """
    return jnp.square(chosen - rejected - 0.5 / beta).astype(chosen.dtype)


__all__ = ["dpo_term", "ipo_term"]


def __dir__() -> list[str]:
    return sorted(__all__)
