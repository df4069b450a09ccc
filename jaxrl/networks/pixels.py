"""Convolutional torsos for screens of 84 x 84 pixels (Atari): the Nature network and IMPALA's residual network.

Convolutions are matrix products over windows, as in ``Conv``. XLA's convolution is faster on CPU outside of loops (3.3
ms against 6.7 ms for 32 screens of 84 x 84 x 4), but its gradient inside of a ``lax.scan``, where agents learn, takes
336 ms, and that of the matrix product 22 ms.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax

from jaxrl.networks.conv import Conv, is_image, strided_patches
from jaxrl.networks.initializers import orthogonal
from jaxrl.networks.inputs import as_float, flatten_batch
from jaxrl.networks.mlp import activation_fn
from jaxrl.networks.residual import padded_patches

SMALLEST = 36
"""Height and width from which the three convolutions of ``NatureCNN`` leave a pixel."""


class NatureCNN(nn.Module):
    """Convolutions of 32 (8 x 8, stride 4), 64 (4 x 4, stride 2) and 64 channels (3 x 3), then dense layers.

    Mnih et al. 2015, "Human-level control through deep reinforcement learning".

    Attributes:
      hidden: the widths of the dense layers.
      activation: one of tanh, relu, gelu, silu, elu.
      layer_norm: layer norm before each activation, over the channels of each pixel for convolutions.
    """

    hidden: Sequence[int] = (512,)
    activation: str = "relu"
    layer_norm: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """From images ``[..., H, W, C]``, H and W at least 36, to ``[..., D]``."""
        if x.ndim < 4 or min(x.shape[-3:-1]) < SMALLEST:
            raise ValueError(
                f"torso: got observations {x.shape}, NatureCNN needs images [N, H, W, C] of at least {SMALLEST} x "
                f"{SMALLEST} pixels; use Conv for smaller ones, MLP for vectors"
            )
        x, batch = flatten_batch(as_float(x), 3)
        activate = activation_fn(self.activation)
        for channels, size, stride in ((32, 8, 4), (64, 4, 2), (64, 3, 1)):
            x = nn.Dense(channels, kernel_init=orthogonal())(strided_patches(x, size, stride))
            x = activate(nn.LayerNorm()(x) if self.layer_norm else x)
        x = x.reshape(x.shape[0], -1)
        for width in self.hidden:
            x = nn.Dense(width, kernel_init=orthogonal())(x)
            x = activate(nn.LayerNorm()(x) if self.layer_norm else x)
        return x.reshape(*batch, x.shape[-1])


class ImpalaCNN(nn.Module):
    """Stages of a convolution, max pooling and two residual blocks, then dense layers.

    A stage is ``x <- pool(conv(x))``, then twice ``x <- x + conv(act(conv(act(x))))``; all convolutions are 3 x 3, the
    pooling is 3 x 3 with stride 2. Espeholt et al. 2018, "IMPALA", arXiv:1802.01561, Figure 3, without its LSTM.

    Attributes:
      channels: the channels of each stage.
      hidden: the widths of the dense layers.
      activation: one of tanh, relu, gelu, silu, elu.
    """

    channels: Sequence[int] = (16, 32, 32)
    hidden: Sequence[int] = (256,)
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """From images ``[..., H, W, C]`` to ``[..., D]``."""
        if x.ndim < 4:
            raise ValueError(f"torso: got observations {x.shape}, ImpalaCNN needs images [N, H, W, C]; use MLP")
        x, batch = flatten_batch(as_float(x), 3)
        activate = activation_fn(self.activation)
        for channels in self.channels:
            convolve = lambda x, width=channels: nn.Dense(width, kernel_init=orthogonal())(padded_patches(x, 3))  # noqa: E731
            x = nn.max_pool(convolve(x), (3, 3), (2, 2), padding="SAME")
            for _ in range(2):
                x = x + convolve(activate(convolve(activate(x))))
        x = activate(x).reshape(x.shape[0], -1)
        for width in self.hidden:
            x = activate(nn.Dense(width, kernel_init=orthogonal())(x))
        return x.reshape(*batch, x.shape[-1])


def image_torso(
    shape: Sequence[int], *, hidden: Sequence[int] | None = None, layer_norm: bool = False
) -> nn.Module | None:
    """``NatureCNN`` for images of at least 36 x 36 pixels, ``Conv`` for smaller ones, None for everything else.

    Args:
      shape: of one observation.
      hidden: the widths of the dense layers; None for the torso's own.
      layer_norm: as in the torsos.
    """
    if not is_image(shape):
        return None
    kind = NatureCNN if min(shape[:2]) >= SMALLEST else Conv
    return kind(layer_norm=layer_norm) if hidden is None else kind(hidden=hidden, layer_norm=layer_norm)
