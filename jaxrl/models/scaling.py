"""Standardisation of data. Legend of shapes: N rows, D numbers per row."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from jaxrl.ops import across
from jaxrl.types import Array


class Scale(NamedTuple):
    """``(x - mean) / scale``.

    Attributes:
      mean: ``[D]``.
      scale: ``[D]``, the standard deviation; 1 where all rows are equal.
    """

    mean: Array
    scale: Array

    def trailing(self, x: Array, like: Array) -> Array:
        """``[D]`` with leading axes of 1, for the rank of ``like``."""
        return x.reshape((1,) * (like.ndim - 1) + x.shape)

    def standardize(self, x: Array) -> Array:
        """Standardises ``[..., D]``."""
        return (x - self.trailing(self.mean, x)) / self.trailing(self.scale, x)

    def restore(self, x: Array) -> Array:
        """The inverse of ``__call__``."""
        return x * self.trailing(self.scale, x) + self.trailing(self.mean, x)


def identity(size: int) -> Scale:
    """The identity for ``size`` numbers."""
    return Scale(jnp.zeros((size,), jnp.float32), jnp.ones((size,), jnp.float32))


def scale_of(rows: Array, valid: Array) -> Scale:
    """The mean and the standard deviation of rows, over all devices.

    A column whose standard deviation is below 1e-5 of its magnitude counts as constant and is only centred.

    Args:
      rows: ``[N, D]``.
      valid: ``[N]`` bool, the rows to use; if there are none, the result is the identity.
    """
    count = jnp.maximum(across.total(valid.sum(dtype=jnp.float32)), 1.0)
    # Differences from one row instead of from 0, so that sums and their rounding errors stay small.
    origin = across.mean(jnp.where(valid[0], rows[0], 0.0))[None]
    shifted = jnp.where(valid[:, None], rows - origin, 0.0)
    mean = across.total(shifted.sum(0)) / count
    squares = jnp.where(valid[:, None], jnp.square(shifted - mean[None]), 0.0)
    deviation = jnp.sqrt(across.total(squares.sum(0)) / count)
    centre = mean + origin[0]
    return Scale(centre, jnp.where(deviation > 1e-5 * jnp.maximum(abs(centre), 1e-3), deviation, 1.0))
