"""Weight initialisers that are safe under ``vmap``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Initializer = Callable[..., jax.Array]


_PANEL = 64


def _orthonormal_columns(matrix: jax.Array) -> jax.Array:
    """Gram-Schmidt for ``[n, m]``, n >= m, panel by panel and column by column within a panel.

    Every vector is projected twice ("twice is enough", Kahan and Parlett). With panels most of the work is matrix
    products.
    """
    basis = matrix[:, :0]
    for start in range(0, matrix.shape[1], _PANEL):
        panel = matrix[:, start : start + _PANEL]
        for _ in range(2):
            panel = panel - basis @ (basis.T @ panel)
        basis = jnp.concatenate([basis, _orthonormal_panel(panel)], axis=1)
    return basis


@jax.jit  # traced once per shape: Flax asks every initialiser for its shape at every apply
def _orthonormal_panel(matrix: jax.Array) -> jax.Array:
    num_columns = matrix.shape[1]

    def orthonormalize(column: Any, basis: jax.Array) -> jax.Array:
        vector = matrix[:, column]
        vector = vector - basis @ (basis.T @ vector)
        vector = vector - basis @ (basis.T @ vector)
        vector = vector / jnp.linalg.norm(vector)
        return jax.lax.dynamic_update_index_in_dim(basis, vector, column, axis=1)

    # Later columns are still zero, so projecting on the whole basis projects on the finished columns.
    return jax.lax.fori_loop(0, num_columns, orthonormalize, jnp.zeros_like(matrix))


def orthogonal(scale: float = math.sqrt(2.0)) -> Initializer:
    """Random orthogonal weights, ``W^T W = scale^2 I`` (or ``W W^T`` where wide), uniform over such matrices.

    Saxe et al. 2014, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks".
    It orthogonalises a Gaussian matrix by Gram-Schmidt. The usual initialisers become batched QR factorisations under
    ``vmap`` over seeds, and two of them in one program can deadlock on CPU.

    Args:
      scale: all singular values; sqrt(2) suits ReLU and tanh torsos.

    Returns:
      ``init(key, shape, dtype)``; all axes but the last are flattened as the input.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32, out_sharding: Any = None) -> jax.Array:
        del out_sharding  # part of Flax's call; the caller's jit places the result
        if len(shape) < 2:
            raise ValueError(f"shape: got {shape}, must have at least 2 axes")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        gaussian = jax.random.normal(key, (max(rows, columns), min(rows, columns)), jnp.float32)
        basis = _orthonormal_columns(gaussian)
        weights = basis if rows >= columns else basis.T
        return (scale * weights).reshape(shape).astype(dtype)

    return init


def gaussian(scale: float = 1.0) -> Initializer:
    """Gaussian weights of variance ``scale^2 / inputs``: outputs have ``scale`` times the inputs' standard deviation.

    LeCun et al. 1998, "Efficient backprop". It is one operation; ``orthogonal`` compiles a loop per matrix.

    Args:
      scale: the gain.

    Returns:
      ``init(key, shape, dtype)``; all axes but the last are flattened as the input.
    """
    return nn.initializers.variance_scaling(scale**2, "fan_in", "normal")
