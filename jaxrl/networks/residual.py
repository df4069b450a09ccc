"""The residual convolutional torso for boards (AlphaZero)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks.conv import patches
from jaxrl.networks.initializers import orthogonal
from jaxrl.networks.inputs import as_float, flatten_batch
from jaxrl.networks.mlp import activation_fn


def padded_patches(images: jax.Array, size: int) -> jax.Array:
    """The windows of ``[N, H, W, C]`` around every square, zero-padded: ``[N, H, W, size*size*C]``."""
    before, after = (size - 1) // 2, size // 2
    return patches(jnp.pad(images, ((0, 0), (before, after), (before, after), (0, 0))), size)


class Residual(nn.Module):
    """Residual blocks of two convolutions, ``x <- x + conv(act(norm(conv(act(norm(x))))))``, and a few output planes.

    Silver et al. 2018, supplement, with the order of layers of He et al. 2016, "Identity mappings in deep residual
    networks". Layer norm over the channels of each square replaces batch norm, which would need a state. As in
    AlphaZero's heads, a 1 x 1 convolution reduces the channels to a few planes before they are flattened.

    Attributes:
      channels: the number of channels of every convolution.
      blocks: the number of residual blocks.
      planes: the number of output channels; there are H x W x planes features.
      kernel_size: the width of the square window.
      activation: one of tanh, relu, gelu, silu, elu.
      layer_norm: layer norm before each activation.
    """

    channels: int = 32
    blocks: int = 3
    planes: int = 4
    kernel_size: int = 3
    activation: str = "relu"
    layer_norm: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """From boards ``[..., H, W, C]`` to ``[..., H * W * planes]``."""
        if x.ndim < 4:
            raise ValueError(
                f"torso: got observations {x.shape}, Residual needs boards [N, H, W, C]; use MLP for vectors"
            )
        x, batch = flatten_batch(as_float(x), 3)
        activate = activation_fn(self.activation)
        normal = lambda x: activate(nn.LayerNorm()(x) if self.layer_norm else x)  # noqa: E731
        # The last convolution of a block has small initial weights, so that blocks are initially close to the identity.
        convolve = lambda x, scale: nn.Dense(self.channels, kernel_init=orthogonal(scale))(  # noqa: E731
            padded_patches(x, self.kernel_size)
        )
        x = convolve(x, 2.0**0.5)
        for _ in range(self.blocks):
            x = x + convolve(normal(convolve(normal(x), 2.0**0.5)), 0.1)
        x = activate(nn.Dense(self.planes, kernel_init=orthogonal())(normal(x)))
        return x.reshape(*batch, -1)
