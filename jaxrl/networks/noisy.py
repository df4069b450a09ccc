"""The dense layer with learned noise."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


def _factor(key: jax.Array, size: int) -> jax.Array:
    """``f(e) = sign(e) sqrt|e|`` of Gaussian ``e``, ``[size]``."""
    noise = jax.random.normal(key, (size,), jnp.float32)
    return jnp.sign(noise) * jnp.sqrt(jnp.abs(noise))


class NoisyDense(nn.Module):
    """A dense layer with Gaussian noise on its weights, whose means and noise scales are learned.

    ``y = (W + S * f(e_in) f(e_out)^T)^T x + b + s * f(e_out)``, ``e`` Gaussian, ``f(e) = sign(e) sqrt|e|``.
    Fortunato et al. 2018, "Noisy networks for exploration", with factorised noise and its initial values.

    The noise comes from the rng collection "noise", one draw per call for the whole batch. Without this rng the layer
    uses the mean weights.

    Attributes:
      size: the number of outputs.
      sigma: the initial scale of the noise, times ``1 / sqrt(inputs)``; may be a tracer.
    """

    size: int
    sigma: Any = 0.5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        num_inputs = x.shape[-1]
        bound = 1.0 / math.sqrt(num_inputs)

        def mean(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

        def scale(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            del key
            return jnp.full(shape, self.sigma * bound, jnp.float32)

        kernel = self.param("kernel", mean, (num_inputs, self.size))
        bias = self.param("bias", mean, (self.size,))
        kernel_scale = self.param("kernel_scale", scale, (num_inputs, self.size))
        bias_scale = self.param("bias_scale", scale, (self.size,))
        if self.has_rng("noise"):
            key_in, key_out = jax.random.split(self.make_rng("noise"))
            noise_in, noise_out = _factor(key_in, num_inputs), _factor(key_out, self.size)
            kernel = kernel + kernel_scale * jnp.outer(noise_in, noise_out)
            bias = bias + bias_scale * noise_out
        y = x @ kernel
        return y + bias.reshape((1,) * (y.ndim - 1) + (-1,))
