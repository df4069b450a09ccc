"""Tokens of an observation for a transformer, and their positions.

Legend: N batch, T tokens, W width, k steps of a window, D features.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks.initializers import gaussian

POSITIONS = ("learned", "sinusoidal")


class Tokens(NamedTuple):
    """A sequence for attention.

    Attributes:
      values: ``[N, T, W]``.
      present: ``[N, T]`` bool, False for masked tokens; None where all are present.
    """

    values: jax.Array
    present: jax.Array | None


def sinusoidal(positions: jax.Array, width: int) -> jax.Array:
    """``sin(p / 10000^(2i/W))`` and the same cosines. Vaswani et al. 2017, "Attention is all you need", section 3.5.

    Args:
      positions: ``[T]``.
      width: W.

    Returns:
      ``[T, W]``.
    """
    num = (width + 1) // 2
    frequencies = jnp.exp(-math.log(10_000.0) * jnp.arange(num, dtype=jnp.float32) / num)
    angles = positions.astype(jnp.float32)[:, None] * frequencies[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)[:, :width]


def sinusoidal_grid(height: int, width: int, size: int) -> jax.Array:
    """Positions of a grid, half of the channels for the row, half for the column: ``[height * width, size]``."""
    of_rows, of_columns = (sinusoidal(jnp.arange(n), m) for n, m in ((height, size - size // 2), (width, size // 2)))
    rows = jnp.repeat(of_rows, width, axis=0)
    return jnp.concatenate([rows, jnp.tile(of_columns, (height, 1))], axis=-1)


def patches_of(images: jax.Array, size: int) -> jax.Array:
    """Non-overlapping patches of ``size x size``: ``[N, H, W, C]`` to ``[N, H / size, W / size, size*size*C]``.

    Raises:
      ValueError: ``size`` does not divide both sides of the image.
    """
    num, height, width, channels = images.shape
    if height % size or width % size:
        raise ValueError(f"patch_size: got {size}, must divide both sides of the image, {height} x {width}")
    cut = images.reshape(num, height // size, size, width // size, size, channels)
    return cut.swapaxes(2, 3).reshape(num, height // size, width // size, size * size * channels)


class Tokenizer(nn.Module):
    """Converts observations to tokens.

    - Vectors ``[N, D]`` give a token per feature, ``x_i w_i + p_i`` with its own weights, as in the FT-Transformer
      (Gorishniy et al. 2021, "Revisiting deep learning models for tabular data").
    - Matrices ``[N, k, D]`` give a token per row, ``W x_t + p``, with rows counted from the last.
    - Images and boards ``[N, H, W, C]`` give a token per square of ``patch_size``.

    Attributes:
      width: the width of a token.
      positions: learned or sinusoidal.
      patch_size: the width of the square patches of an image; 1 for boards.
      window: matrices are windows ``[k, D + 1]`` of steps whose last channel is a flag, 1 where the step is absent and
        0 where it is present; the flag is never standardised (``Spec.flags``).
    """

    width: int
    positions: str
    patch_size: int
    window: bool

    def _placed(self, values: jax.Array, sinusoid: jax.Array) -> Tokens:
        """The tokens ``[N, T, W]`` with their positions added."""
        if self.positions == "sinusoidal":
            table = sinusoid
        else:
            table = self.param("positions", nn.initializers.normal(1.0), sinusoid.shape, jnp.float32)
        return Tokens(values + table[None], None)

    @nn.compact
    def __call__(self, x: jax.Array) -> Tokens:
        if self.window and (x.ndim != 3 or x.shape[-1] < 2):
            raise ValueError(
                f"window: got observations {list(x.shape[1:])}, must be [k, D + 1] with a last channel that "
                "flags absent steps; use envs.window, or --window K"
            )
        embedding: Any = nn.Dense(self.width, kernel_init=gaussian(1.0), name="embedding")
        if x.ndim == 2:
            weights = self.param("weights", nn.initializers.normal(1.0), (x.shape[1], self.width), jnp.float32)
            return self._placed(x[:, :, None] * weights[None], sinusoidal(jnp.arange(x.shape[1]), self.width))
        if x.ndim == 3:
            # Positions count from the newest step, so that padding in front does not change them.
            ages = jnp.arange(x.shape[1])
            steps = x[..., :-1] if self.window else x
            tokens = self._placed(embedding(steps)[:, ::-1], sinusoidal(ages, self.width))
            return tokens._replace(present=x[:, ::-1, -1] <= 0.0) if self.window else tokens
        if x.ndim == 4:
            squares = patches_of(x, self.patch_size)
            _, height, width, _ = squares.shape
            grid = sinusoidal_grid(height, width, self.width)
            return self._placed(embedding(squares).reshape(len(x), height * width, self.width), grid)
        raise ValueError(
            f"torso: Transformer makes tokens of vectors [D], matrices [k, D] and images [H, W, C], got observations "
            f"{list(x.shape[1:])}"
        )
