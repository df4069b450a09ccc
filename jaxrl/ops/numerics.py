"""Arithmetic at the limits of a dtype: overflow, literals below its resolution, and ties that it can't resolve."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array


def wide(*arrays: Any) -> Any:
    """The dtype of a result of these arrays, at least float32: for sums, squares and means in half precision.

    >>> wide(jnp.zeros(1, jnp.float16)), wide(jnp.zeros(1, jnp.bfloat16), jnp.zeros(1, jnp.float32))
    (dtype('float32'), dtype('float32'))
    """
    return jnp.promote_types(jnp.result_type(*arrays), jnp.float32)


def positive(epsilon: Any, dtype: Any) -> Array:
    """The maximum of ``epsilon`` and the smallest normal number of the dtype, since 1e-8 is 0 in float16.

    >>> bool(positive(1e-8, jnp.float16) > 0), float(positive(0.5, jnp.float16))
    (True, 0.5)
    """
    return jnp.maximum(jnp.asarray(epsilon, dtype), jnp.asarray(jnp.finfo(dtype).tiny, dtype))


def tie_noise(scale: float, dtype: Any) -> float:
    """Converts a scale of tie-breaking noise that was chosen for float32 to the resolution of a coarser dtype.

    >>> tie_noise(1e-6, jnp.float32), tie_noise(1e-6, jnp.bfloat16)
    (1e-06, 0.065536)
    """
    return scale * max(1.0, float(jnp.finfo(dtype).eps) / float(jnp.finfo(jnp.float32).eps))


def max_log_ratio(dtype: Any) -> float:
    """The largest logarithm of a probability ratio whose exponential is finite with a margin.

    It is 80 in float32: ``exp(80)`` is 5e34, a factor of 6000 below overflow, where infinity times 0 would make
    gradients NaN. In float16 the margin is a factor of e.
    """
    return min(80.0, math.log(float(jnp.finfo(dtype).max)) - 1.0)


def log_softmax(logits: Array) -> Array:
    """``log softmax(logits)`` over the last axis, finite for any logits but NaN.

    Where the probability is 0 the result is a large negative number instead of ``-inf``, so that ``0 * log 0`` and its
    gradient are 0. A row of ``-inf`` only is uniform. Logits are clipped to a quarter of the largest number.

    >>> log_softmax(jnp.array([0.0, 0.0, -jnp.inf])).tolist()
    [-0.6931471824645996, -0.6931471824645996, -8.507058665966221e+37]
    """
    highest = 0.25 * float(jnp.finfo(logits.dtype).max)
    return jax.nn.log_softmax(jnp.clip(logits, -highest, highest))


def count_up(count: Array, n: int) -> Array:
    """``count + n``, at most the largest number of the dtype: a counter that wrapped would be negative.

    >>> int(count_up(jnp.int32(3), 4)), int(count_up(jnp.int32(2**31 - 3), 4)) == 2**31 - 1
    (7, True)
    """
    most = jnp.iinfo(count.dtype).max
    return jnp.minimum(count, most - n) + n
