"""Mixtures of Gaussians, one for each latent number. Bishop 1994, "Mixture density networks".

Legend of shapes: L latent numbers, K components.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.types import Array


class Mixture(NamedTuple):
    """``p(z) = prod_l sum_k w_lk N(z_l; mean_lk, scale_lk^2)``, leaves ``[..., L, K]``.

    Attributes:
      logits: ``log w`` up to a constant.
      mean: mean of each component.
      scale: standard deviation of each component.
    """

    logits: Array
    mean: Array
    scale: Array

    def log_prob(self, z: Array) -> Array:
        """Log-density ``[...]`` of ``z [..., L]``."""
        standardized = (z[..., None] - self.mean) / self.scale
        components = -0.5 * jnp.square(standardized) - jnp.log(self.scale) - 0.5 * math.log(2.0 * math.pi)
        return jax.nn.logsumexp(jax.nn.log_softmax(self.logits) + components, axis=-1).sum(-1)

    def sample(self, key: Array, temperature: Any = 1.0) -> Array:
        """Samples ``[..., L]``: ``k ~ softmax(logits / T)``, ``z = mean_k + sqrt(T) scale_k noise``.

        Ha and Schmidhuber 2018, arXiv:1803.10122, appendix: a higher T makes dreams more uncertain. T = 0 gives the
        mean of the component with the largest weight.

        Args:
          key: consumed.
          temperature: T, scalar, at least 0.
        """
        component_key, noise_key = jax.random.split(key)
        temperature = jnp.asarray(temperature, self.mean.dtype)
        # The component with the largest weight has logit 0 for every T.
        above = self.logits - self.logits.max(-1, keepdims=True)
        noise = jax.random.gumbel(component_key, above.shape, above.dtype)
        chosen = (above / jnp.maximum(temperature, 1e-30) + noise).argmax(-1)
        component = jax.nn.one_hot(chosen, above.shape[-1], dtype=self.mean.dtype)
        mean, scale = (component * self.mean).sum(-1), (component * self.scale).sum(-1)
        return mean + jnp.sqrt(temperature) * scale * jax.random.normal(noise_key, mean.shape, mean.dtype)


def mixture(raw: Array, num_components: int, floor: float) -> Mixture:
    """A mixture from unconstrained numbers, ``[..., L 3 K] -> Mixture [..., L, K]``.

    ``scale = floor + softplus(raw)``: without a floor the likelihood is unbounded where a component fits a latent
    exactly.

    Args:
      raw: outputs of a network.
      num_components: K.
      floor: smallest standard deviation.
    """
    logits, mean, scale = jnp.split(raw.reshape(*raw.shape[:-1], -1, 3 * num_components), 3, axis=-1)
    return Mixture(logits, mean, floor + jax.nn.softplus(scale))
