"""Mixtures of Gaussians, one for each latent number. Bishop 1994, "Mixture density networks".

Legend of shapes: L latent numbers, K components, U hidden units of a number.
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
        return self.at(_noise(key, self.mean.shape, self.mean.dtype), temperature)

    def at(self, noise: tuple[Array, Array], temperature: Any) -> Array:
        """The sample that belongs to Gumbel noise ``[..., L, K]`` and normal noise ``[..., L]``."""
        gumbel, normal = noise
        temperature = jnp.asarray(temperature, self.mean.dtype)
        # The component with the largest weight has logit 0 for every T.
        above = self.logits - self.logits.max(-1, keepdims=True)
        chosen = (above / jnp.maximum(temperature, 1e-30) + gumbel).argmax(-1)
        component = jax.nn.one_hot(chosen, above.shape[-1], dtype=self.mean.dtype)
        mean, scale = (component * self.mean).sum(-1), (component * self.scale).sum(-1)
        return mean + jnp.sqrt(temperature) * scale * normal


class Chain(NamedTuple):
    """``p(z) = prod_l p(z_l | z_1 ... z_{l-1})``: the mixture of each number depends on the numbers before it.

    ``raw_l = base_l + tanh(hidden_l + sum_{j < l} z_j before_jl) after_l``, and the mixture of z_l is that of raw_l.
    Independent mixtures can't say that several numbers change together: where one of many things may appear, each
    number of a sample would show another of them. Uria et al. 2013, "RNADE", arXiv:1306.0186.

    Attributes:
      base: ``[..., L, 3 K]``.
      hidden: ``[..., L, U]``.
      before: ``[..., L, L, U]`` weights, 0 where j is not before l. Leading axes may have size 1, so that all states of
        a batch share them.
      after: ``[..., L, U, 3 K]`` weights.
      floor: ``[...]`` smallest standard deviation of a component.
    """

    base: Array
    hidden: Array
    before: Array
    after: Array
    floor: Array

    def log_prob(self, z: Array) -> Array:
        """Log-density ``[...]`` of ``z [..., L]``."""
        hidden = jnp.tanh(self.hidden + jnp.einsum("...j,...jlu->...lu", z, self.before))
        raw = self.base + jnp.einsum("...lu,...luk->...lk", hidden, self.after)
        return _of_raw(raw, self.floor[..., None, None]).log_prob(z)

    def sample(self, key: Array, temperature: Any = 1.0) -> Array:
        """Samples ``[..., L]``, one number after the other, each as ``Mixture.sample`` does.

        Args:
          key: consumed.
          temperature: T, scalar, at least 0.
        """
        *batch, size, raw_size = self.base.shape
        noise = _noise(key, (size, *batch, 1, raw_size // 3), self.base.dtype)

        def number(hidden: Array, given: Any) -> tuple[Array, Array]:
            index, base, before, after, noise = given
            raw = base[..., None, :] + jnp.tanh(hidden[..., index, :])[..., None, :] @ after  # [..., 1, 3 K]
            z = _of_raw(raw, self.floor[..., None, None]).at(noise, temperature)  # [..., 1]
            return hidden + z[..., None] * before, z[..., 0]

        base, before, after = (
            jnp.moveaxis(leaf, axis, 0) for leaf, axis in ((self.base, -2), (self.before, -3), (self.after, -3))
        )
        return jnp.moveaxis(jax.lax.scan(number, self.hidden, (jnp.arange(size), base, before, after, noise))[1], 0, -1)


def _noise(key: Array, shape: tuple[int, ...], dtype: Any) -> tuple[Array, Array]:
    """Gumbel noise for components ``[..., L, K]``, and normal noise ``[..., L]``."""
    component_key, noise_key = jax.random.split(key)
    return jax.random.gumbel(component_key, shape, dtype), jax.random.normal(noise_key, shape[:-1], dtype)


def mixture(raw: Array, num_components: int, floor: float) -> Mixture:
    """A mixture from unconstrained numbers, ``[..., L 3 K] -> Mixture [..., L, K]``.

    ``scale = floor + softplus(raw)``: without a floor the likelihood is unbounded where a component fits a latent
    exactly.

    Args:
      raw: outputs of a network.
      num_components: K.
      floor: smallest standard deviation.
    """
    return _of_raw(raw.reshape(*raw.shape[:-1], -1, 3 * num_components), floor)


def _of_raw(raw: Array, floor: Any) -> Mixture:
    """The same of ``[..., L, 3 K]``."""
    logits, mean, scale = jnp.split(raw, 3, axis=-1)
    return Mixture(logits, mean, floor + jax.nn.softplus(scale))
