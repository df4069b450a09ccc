"""Heads: from features ``[..., D]`` to distributions over actions and to values; they act on the last axis.

A policy's distribution is over *raw* actions: the action itself where actions are discrete, the number before the tanh
or the clip where they are continuous. ``environment_action`` maps raw actions to the environment's. So ``atanh`` of a
saturated action is never needed.
"""

from __future__ import annotations

from typing import Any

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import types
from jaxrl.networks.initializers import orthogonal
from jaxrl.networks.inputs import flatten_batch

# Gauss-Hermite nodes. With 32 the expected log-derivative of the tanh has an error of 2e-4 at std 2, of 1e-2 at std 4.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()

_ILLEGAL_LOGIT = -1e9


class Categorical(distrax.Categorical):
    """A categorical distribution whose logits are normalised once.

    It gives the same numbers as distrax's, without the checks of probabilities in every draw and the second
    normalisation in the entropy, which are a third of the kernels of a step of a small environment.
    """

    def _sample_n(self, key: jax.Array, n: int) -> jax.Array:
        draws = jax.random.categorical(key, self.logits, axis=-1, shape=(n, *self.logits.shape[:-1]))
        return draws.astype(self._dtype)

    def log_prob(self, value: jax.Array) -> jax.Array:
        return (jax.nn.one_hot(value, self.num_categories, dtype=self.logits.dtype) * self.logits).sum(-1)

    def entropy(self) -> jax.Array:
        return -(jnp.exp(self.logits) * self.logits).sum(-1)


class DiagonalGaussian(distrax.MultivariateNormalDiag):
    """Independent Gaussians, raw action ``[..., *shape]`` flattened to ``[..., D]``."""

    def entropy(self) -> jax.Array:
        """The entropy in nats, in the dtype of the mean (distrax returns float64 under x64)."""
        return super().entropy().astype(self.loc.dtype)


class SquashedGaussian(distrax.MultivariateNormalDiag):
    """The distribution of ``tanh(x)`` for Gaussian ``x``, whose log-probability takes the raw ``x``.

    ``log pi(tanh x) = log N(x; mu, sigma) - sum log(1 - tanh(x)^2)``. Haarnoja et al. 2018, "Soft actor-critic",
    appendix C.
    """

    def log_prob(self, value: jax.Array) -> jax.Array:
        return super().log_prob(value) - _log_tanh_slope(value).sum(-1)

    def _sample_n_and_log_prob(self, key: jax.Array, n: int) -> tuple[jax.Array, jax.Array]:
        samples = self._sample_n(key, n)
        return samples, jax.vmap(self.log_prob)(samples)

    def entropy(self) -> jax.Array:
        """The entropy of the squashed action: ``H[N] + E sum log(1 - tanh(x)^2)``, by Gauss-Hermite quadrature."""
        axes = (*(1 for _ in self.loc.shape), -1)
        nodes, weights = (jnp.asarray(x, self.loc.dtype).reshape(axes) for x in (_NODES, _WEIGHTS))
        samples = self.loc[..., None] + self.scale_diag[..., None] * nodes
        slope = (_log_tanh_slope(samples) * weights).sum(-1)
        return super().entropy().astype(self.loc.dtype) + slope.sum(-1)


def _log_tanh_slope(x: jax.Array) -> jax.Array:
    """``log(1 - tanh(x)^2) = 2 (log 2 - x - softplus(-2x))``, finite for every finite x."""
    return 2.0 * (jnp.log(2.0) - x - jax.nn.softplus(-2.0 * x))


class NarrowDense(nn.Module):
    """``y = x W^T + b`` with ``W`` stored as ``[out, in]``, for fewer outputs than inputs.

    The gradient of ``W`` is then a product with long rows, which on CPU is five times faster than its transpose.

    Attributes:
      size: the number of outputs.
      scale: gain of the orthogonal initial weights.
    """

    size: int
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", orthogonal(self.scale), (self.size, x.shape[-1]))
        bias = self.param("bias", nn.initializers.zeros, (self.size,), jnp.float32)
        # One matrix product for all leading axes, so that they do not change the rounding.
        x, batch = flatten_batch(x, 1)
        y = jax.lax.dot_general(x, kernel, (((1,), (1,)), ((), ())))
        return (y + bias[None]).reshape(*batch, self.size)


class CategoricalHead(nn.Module):
    """Logits of a categorical policy; illegal actions are masked.

    Attributes:
      num_actions: A.
      scale: gain of the initial weights; 0.01 makes the initial policy nearly uniform.
    """

    num_actions: int
    scale: float = 0.01

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> Categorical:
        logits = NarrowDense(self.num_actions, self.scale)(x)
        if mask is not None:
            logits = jnp.where(mask, logits, _ILLEGAL_LOGIT)
        return Categorical(logits=logits, dtype=jnp.int32)


class GaussianHead(nn.Module):
    """A diagonal Gaussian policy.

    Attributes:
      size: D, the number of action dimensions.
      squash: pass actions through a tanh.
      state_dependent_std: the network outputs the log standard deviation; otherwise it is a parameter.
      initial_log_std: the initial log standard deviation; may be a tracer.
      scale: gain of the initial weights of the mean.
    """

    size: int
    squash: bool = False
    state_dependent_std: bool = False
    initial_log_std: Any = 0.0
    scale: float = 0.01

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> distrax.MultivariateNormalDiag:
        del mask  # continuous actions have no mask
        mean = NarrowDense(self.size, self.scale)(x)
        if self.state_dependent_std:
            offset = NarrowDense(self.size, self.scale, name="log_std")(x)
        else:
            offset = self.param("log_std", nn.initializers.zeros, (self.size,), jnp.float32)
        # The initial value is added, not stored, so that it may be a hyper-parameter under vmap.
        log_std = jnp.clip(offset + self.initial_log_std, -20.0, 2.0)
        std = jnp.broadcast_to(jnp.exp(log_std), mean.shape)
        return (SquashedGaussian if self.squash else DiagonalGaussian)(mean, std)


class ValueHead(nn.Module):
    """State values ``[N]``."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return NarrowDense(1)(x)[..., 0]


def policy_head(action: types.Discrete | types.Box, **gaussian_options: Any) -> nn.Module:
    """The policy head for an action space: categorical, or Gaussian with ``gaussian_options``."""
    if isinstance(action, types.Discrete):
        return CategoricalHead(action.num_actions)
    return GaussianHead(int(np.prod(action.shape)), **gaussian_options)


def environment_action(action: types.Discrete | types.Box, raw: jax.Array, squash: bool = False) -> jax.Array:
    """The environment's action for the raw action ``[N]`` or ``[N, D]``.

    Discrete actions are unchanged. Continuous actions are brought to units of the bounds, [-1, 1], by the tanh of a
    squashed policy or else by clipping, then rescaled by ``Box.from_unit``.
    """
    if isinstance(action, types.Discrete):
        return raw
    unit = jnp.tanh(raw) if squash else raw
    return action.from_unit(unit.reshape(*raw.shape[:-1], *action.shape))
