"""The convolutional torso for small images (MinAtar)."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks.initializers import orthogonal
from jaxrl.networks.inputs import as_float, flatten_batch
from jaxrl.networks.mlp import activation_fn


def patches(images: jax.Array, size: int) -> jax.Array:
    """The ``size x size`` windows of ``[N, H, W, C]``, stride 1, no padding: ``[N, H', W', size*size*C]``.

    It consists of shifted slices. On CPU a convolution and its gradient as one matrix product over these windows are
    several times faster than the convolution primitive for images of 10 x 10.
    """
    height, width = images.shape[1] - size + 1, images.shape[2] - size + 1
    if height < 1 or width < 1:
        raise ValueError(
            f"kernel_size: got {size}, must be at most the image's size, {images.shape[1]} x {images.shape[2]}"
        )
    shifts = [images[:, i : i + height, j : j + width, :] for i in range(size) for j in range(size)]
    return jnp.concatenate(shifts, axis=-1)


def strided_patches(images: jax.Array, size: int, stride: int) -> jax.Array:
    """The windows of ``[N, H, W, C]`` at every ``stride``-th pixel, no padding: ``[N, H', W', size*size*C]``.

    ``stride`` divides ``size``, so that the windows consist of blocks of ``stride x stride`` pixels: first the images
    are cut into blocks, then windows of ``size / stride`` blocks are taken with stride 1.
    """
    number, height, width, channels = images.shape
    rows, columns = ((length - size) // stride + size // stride for length in (height, width))
    blocks = images[:, : rows * stride, : columns * stride].reshape(number, rows, stride, columns, stride, channels)
    return patches(blocks.swapaxes(2, 3).reshape(number, rows, columns, -1), size // stride)


def is_image(shape: Sequence[int]) -> bool:
    """Whether an observation of this shape is an image ``[H, W, C]`` of at least 3 x 3 pixels."""
    return len(shape) == 3 and min(shape[:2]) >= 3


class Conv(nn.Module):
    """Convolutions (3 x 3, stride 1) and dense layers, as in Young and Tian 2019, "MinAtar".

    Attributes:
      channels: the channels of each convolution.
      hidden: the widths of the dense layers after them.
      kernel_size: the width of the square window.
      activation: one of tanh, relu, gelu, silu, elu.
      layer_norm: layer norm before each activation, over the channels of each pixel for convolutions (Ba et al. 2016;
        Gallici et al. 2024).
    """

    channels: Sequence[int] = (16,)
    hidden: Sequence[int] = (128,)
    kernel_size: int = 3
    activation: str = "relu"
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """From images ``[..., H, W, C]`` to ``[..., D]``."""
        if x.ndim < 4:
            raise ValueError(f"torso: got observations {x.shape}, Conv needs images [N, H, W, C]; use MLP for vectors")
        x, batch = flatten_batch(as_float(x), 3)
        activate = activation_fn(self.activation)
        for width in self.channels:
            x = nn.Dense(width, kernel_init=orthogonal())(patches(x, self.kernel_size))
            x = nn.LayerNorm()(x) if self.layer_norm else x
            x = activate(x)
        x = x.reshape(x.shape[0], -1)
        for width in self.hidden:
            x = nn.Dense(width, kernel_init=orthogonal())(x)
            x = nn.LayerNorm()(x) if self.layer_norm else x
            x = activate(x)
        return x.reshape(*batch, x.shape[-1])
