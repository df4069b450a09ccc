"""Networks of an agent that imagines: a model of images, and a torso that reads imagined rollouts.

Legend of shapes: N observations, A actions, D steps of an imagined rollout, ``[H, W, C]`` an image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks.conv import Conv, patches
from jaxrl.networks.initializers import gaussian, orthogonal
from jaxrl.networks.inputs import as_float, pooled


class NextImage(nn.Module):
    """The next image and the reward of an action. Weber et al. 2017, arXiv:1707.06203, appendix C.

    The action is painted over the image as one-hot planes; convolutions of 3 x 3 keep the size of the image. The reward
    is read from both images and the action: a dense layer at each pixel, whose sum and maximum over pixels go on, since
    a mean would hide a reward that one pixel in fifty decides; beside them the mean of the convolutions, which know
    places by their distance from the edge.

    Attributes:
      num_actions: A.
      channels: of each convolution.
      hidden: the width of the reward's layers.
    """

    num_actions: int
    channels: Sequence[int] = (32, 32)
    hidden: int = 64

    @nn.compact
    def __call__(
        self, image: jax.Array, action: jax.Array, after: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """The logits ``[N, H, W, C]`` of the next image's pixels, and rewards ``[N]``.

        Args:
          image: ``[N, H, W, C]``.
          action: ``[N]``.
          after: the true next image, which the reward is then read from; None for the predicted one.
        """
        image = as_float(image)
        painted = jnp.broadcast_to(
            jax.nn.one_hot(action, self.num_actions, dtype=jnp.float32)[:, None, None],
            (*image.shape[:3], self.num_actions),
        )
        x = jnp.concatenate([image, painted], axis=-1)
        for width in self.channels:
            padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            x = nn.relu(nn.Dense(width, kernel_init=gaussian(1.4))(patches(padded, 3)))
        # A pixel that stays as it is needs no more than its own weight.
        logits = nn.Dense(image.shape[-1], kernel_init=gaussian(0.1))(x) + nn.Dense(
            image.shape[-1], use_bias=False, kernel_init=gaussian(0.1)
        )(image)
        seen = nn.sigmoid(logits) if after is None else as_float(after)
        both = jnp.concatenate([image, painted, seen], axis=-1)
        pixels = nn.relu(nn.Dense(self.hidden, kernel_init=gaussian(1.4))(both))
        total = pixels.sum((1, 2)) / math.sqrt(image.shape[1] * image.shape[2])
        code = jnp.concatenate([total, pixels.max((1, 2)), x.mean((1, 2))], axis=-1)
        reward = nn.Dense(1, kernel_init=gaussian(0.1))(nn.relu(nn.Dense(self.hidden, kernel_init=gaussian(1.4))(code)))
        return logits, reward[..., 0]


class Imagined(NamedTuple):
    """Rollouts in a model, one for each first action.

    Attributes:
      image: ``[N, A, D, H, W, C]`` float32, what follows each step.
      reward: ``[N, A, D]``.
    """

    image: jax.Array
    reward: jax.Array


def stack(image: jax.Array, imagined: Imagined) -> jax.Array:
    """An image ``[N, H, W, C]`` with its rollouts as further channels: ``[N, H, W, C + A D (C + 1)]``."""
    reward = jnp.broadcast_to(imagined.reward[..., None, None, None], (*imagined.image.shape[:-1], 1))
    frames = jnp.concatenate([imagined.image, reward], axis=-1)
    behind = jnp.moveaxis(frames, (1, 2), (3, 4)).reshape(*image.shape[:3], -1)
    return jnp.concatenate([as_float(image), behind], axis=-1)


def unstack(stacked: jax.Array, num_actions: int, depth: int) -> tuple[jax.Array, jax.Array]:
    """``stack`` undone: the image, and the rollouts ``[N, A, D, H, W, C + 1]`` with the reward as the last channel."""
    rollouts = num_actions * depth
    channels = (stacked.shape[-1] - rollouts) // (rollouts + 1)
    image, behind = stacked[..., :channels], stacked[..., channels:]
    frames = behind.reshape(*image.shape[:3], num_actions, depth, channels + 1)
    return image, jnp.moveaxis(frames, (3, 4), (1, 2))


class ImaginationTorso(nn.Module):
    """A model-free path beside an encoding of imagined rollouts: the network of I2A, figure 2 of Weber et al. 2017.

    ``e_a = LSTM(f(x_D, r_D), ..., f(x_1, r_1))`` for each first action a, read from the last imagined step to the
    first; features are a layer on ``[e_1, ..., e_A, model_free(x)]``.

    Attributes:
      model_free: the torso of the observation itself.
      num_actions: A.
      depth: D.
      channels: of the convolutions that see an imagined image.
      size: of the encoding of an image, and of a rollout.
      hidden: the width of the last layer.
    """

    model_free: nn.Module
    num_actions: int
    depth: int
    channels: Sequence[int] = (16,)
    size: int = 32
    hidden: int = 128

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """From ``stack``'s images ``[N, H, W, C + A D (C + 1)]`` to ``[N, hidden]``."""
        image, frames = unstack(x, self.num_actions, self.depth)
        codes = Conv(channels=self.channels, hidden=(self.size,))(frames)
        codes = jnp.concatenate([codes, frames[..., 0, 0, -1:]], axis=-1)  # [N, A, D, size + 1]
        cell = nn.OptimizedLSTMCell(self.size, kernel_init=gaussian(1.0), recurrent_kernel_init=orthogonal(1.0))
        zeros = jnp.zeros((*codes.shape[:2], self.size), jnp.float32)
        carry = (zeros, zeros)
        for step in reversed(range(self.depth)):
            carry, summary = cell(carry, codes[:, :, step])
        joined = jnp.concatenate([pooled(self.model_free(image), 1), summary.reshape(x.shape[0], -1)], axis=-1)
        return nn.relu(nn.Dense(self.hidden, kernel_init=orthogonal())(joined))
