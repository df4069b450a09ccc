"""Partial returns of episodes that continue in the next rollout.

A return is linear in the return of any later step, ``G_t = sum_t + weight_t G_n``. A position therefore stores two
numbers until its game ends, and each rollout updates them by one multiplication.

Legend of shapes: T time; arrays are time-major ``[T, ...]``, with names as in ``returns``.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array


def open_returns(r_t: Array, discount_t: Array, v_t: Array, continue_t: Array) -> tuple[Array, Array]:
    """``G_{t-1} = sum_{t-1} + weight_{t-1} G``, where G is the return after the end of the arrays.

    Args:
      r_t: ``[T, ...]`` rewards of the player that moved.
      discount_t: ``[T, ...]`` discounts, gamma included, negative where the player to move changes.
      v_t: ``[T, ...]`` values of the true next observations; read where an episode was truncated.
      continue_t: ``[T, ...]`` bool, False where index i + 1 belongs to another episode.

    Returns:
      ``(sum, weight)``, ``[T, ...]`` each. The weight is 0 for steps of finished episodes, whose return is the sum.
    """

    def step(later: tuple[Array, Array], now: Any) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        r, discount, v, goes_on = now
        total, weight = later
        found = (
            r + discount * jnp.where(goes_on, total, v),
            jnp.where(goes_on, discount * weight, 0.0),
        )
        return found, found

    dtype = jnp.result_type(r_t, discount_t, v_t)
    r_t, discount_t, v_t = (x.astype(dtype) for x in (r_t, discount_t, v_t))
    end = jnp.zeros_like(r_t[0]), jnp.ones_like(r_t[0])
    return jax.lax.scan(step, end, (r_t, discount_t, v_t, continue_t), reverse=True)[1]
