"""Baselines from other answers to the same prompt, in place of a learned value.

Legend of shapes: G answers, along the first axis; groups are the rows that have equal prompts.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.ops import numerics

Array = jax.Array


def same_prompt(tokens: Array, mask: Array) -> Array:
    """Which answers have the same prompt: ``[G, G, ...]`` bool.

    Args:
      tokens: ``[G, ..., P]`` prompts; padding is not compared.
      mask: ``[G, ..., P]`` bool.

    >>> tokens, mask = jnp.array([[1, 2], [1, 9], [1, 2]]), jnp.array([[True, True], [True, False], [True, True]])
    >>> same_prompt(tokens, mask).astype(int).tolist()
    [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    """
    tokens = jnp.where(mask, tokens, -1)
    return ((tokens[:, None] == tokens[None]) & (mask[:, None] == mask[None])).all(-1)


def _mean(x: Array, same: Array) -> Array:
    """The mean of ``x [G, ...]`` over the group of each row."""
    weight = same.astype(x.dtype)
    return jnp.sum(weight * x[None], axis=1) / jnp.maximum(jnp.sum(weight, axis=1), 1)


def group_advantage(score: Array, same: Array, *, normalize_std: bool = True, epsilon: Any = 1e-4) -> Array:
    """GRPO's advantage: ``(r - mean r) / (std r + epsilon)`` within each group.

    Shao et al. 2024, arXiv:2402.03300, section 4.1. Without the standard deviation it is that of Dr. GRPO (Liu et al.
    2025, arXiv:2503.20783), whose gradient does not weight prompts by how rarely they are solved.

    Args:
      score: ``[G, ...]``.
      same: ``[G, G, ...]`` bool, from ``same_prompt``.
      normalize_std: divide by the standard deviation of the group (over G, not G - 1).
      epsilon: scalar, added to the standard deviation.

    Returns:
      ``[G, ...]``; 0 for an answer that is alone in its group.

    >>> score, same = jnp.array([0.0, 0.0, 0.0, 1.0]), jnp.ones((4, 4), bool)
    >>> group_advantage(score, same, normalize_std=False).tolist()
    [-0.25, -0.25, -0.25, 0.75]
    >>> [f"{x:.4f}" for x in group_advantage(score, same, epsilon=0.0)]
    ['-0.5774', '-0.5774', '-0.5774', '1.7321']
    """
    wide = score.astype(numerics.wide(score))
    centred = wide - _mean(wide, same)
    if not normalize_std:
        return centred.astype(score.dtype)
    deviation = jnp.sqrt(_mean(jnp.square(centred), same))
    return (centred / (deviation + numerics.positive(epsilon, wide.dtype))).astype(score.dtype)


def leave_one_out(score: Array, same: Array) -> Array:
    """RLOO's advantage: the score minus the mean of the others in the group, ``G / (G - 1) (r - mean r)``.

    Ahmadian et al. 2024, arXiv:2402.14740, eq. 6; Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free".

    Args:
      score: ``[G, ...]``.
      same: ``[G, G, ...]`` bool, from ``same_prompt``.

    Returns:
      ``[G, ...]``; 0 for an answer that is alone in its group.

    >>> [f"{x:.4f}" for x in leave_one_out(jnp.array([0.0, 0.0, 0.0, 1.0]), jnp.ones((4, 4), bool))]
    ['-0.3333', '-0.3333', '-0.3333', '1.0000']
    """
    wide = score.astype(numerics.wide(score))
    size = jnp.sum(same, axis=1).astype(wide.dtype)
    return (size / jnp.maximum(size - 1, 1) * (wide - _mean(wide, same))).astype(score.dtype)


__all__ = ["group_advantage", "leave_one_out", "same_prompt"]


def __dir__() -> list[str]:
    return sorted(__all__)
