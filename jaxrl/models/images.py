"""Encoders and decoders of small images, as matrix products on patches (see ``networks.conv``)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks import as_float
from jaxrl.networks.conv import patches
from jaxrl.networks.initializers import gaussian

RELU_GAIN = math.sqrt(2.0)
"""Gain that preserves the scale of activations through a layer and a ReLU."""


class ConvEncoder(nn.Module):
    """Convolutions of 4 x 4, stride 2, each followed by a ReLU; every layer halves height and width.

    Attributes:
      channels: number of channels of each layer.
    """

    channels: Sequence[int] = (16, 32)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """From ``[N, H, W, C]`` to ``[N, F]``; H and W are multiples of ``2^layers``."""
        x = as_float(x)
        for width in self.channels:
            height, breadth = x.shape[1:3]
            x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            shifts = [x[:, i : i + height : 2, j : j + breadth : 2] for i in range(4) for j in range(4)]
            x = nn.relu(nn.Dense(width, kernel_init=gaussian(RELU_GAIN))(jnp.concatenate(shifts, axis=-1)))
        return x.reshape(x.shape[0], -1)


class ConvDecoder(nn.Module):
    """The reverse of ``ConvEncoder``: every layer doubles height and width by a 3 x 3 convolution to 4 outputs a pixel.

    Shi et al. 2016, "Real-time single image and video super-resolution using an efficient sub-pixel convolutional
    neural network", arXiv:1609.05158.

    Attributes:
      shape: ``(H, W, C)`` of the image.
      channels: channels of the encoder's layers, used in reverse order.
    """

    shape: Sequence[int]
    channels: Sequence[int] = (16, 32)

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """From ``[N, L]`` to ``[N, H, W, C]``, without an activation at the end."""
        halvings = 2 ** len(self.channels)
        side = (self.shape[0] // halvings, self.shape[1] // halvings, self.channels[-1])
        x = nn.Dense(math.prod(side), kernel_init=gaussian(RELU_GAIN))(z).reshape(-1, *side)
        for width in (*reversed(self.channels[:-1]), self.shape[2]):
            x = jnp.pad(nn.relu(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
            x = nn.Dense(4 * width, kernel_init=gaussian(1.0))(patches(x, 3))
            num, height, breadth, _ = x.shape
            x = x.reshape(num, height, breadth, 2, 2, width).swapaxes(2, 3)
            x = x.reshape(num, 2 * height, 2 * breadth, width)
        return x


class MLPDecoder(nn.Module):
    """Dense layers with a ReLU after all but the last.

    Attributes:
      shape: shape of the outputs.
      hidden: the width of each hidden layer.
    """

    shape: Sequence[int]
    hidden: Sequence[int] = (256,)

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """From ``[N, L]`` to ``[N, *shape]``."""
        for width in self.hidden:
            z = nn.relu(nn.Dense(width, kernel_init=gaussian(RELU_GAIN))(z))
        return nn.Dense(math.prod(self.shape), kernel_init=gaussian(1.0))(z).reshape(-1, *self.shape)
