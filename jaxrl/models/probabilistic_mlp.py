"""A network that outputs means and variances. Legend of shapes: O outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from jaxrl.networks.initializers import gaussian
from jaxrl.networks.mlp import activation_fn
from jaxrl.types import Array


class Raw(NamedTuple):
    """Outputs of one network: mean and variance ``[..., O]`` in normalised units, and a logit ``[...]``."""

    mean: Array
    variance: Array
    logit: Array


class ProbabilisticMLP(nn.Module):
    """One member: ``x -> (mean, variance)``, with the log-variance between two learned bounds.

    ``v <- v_max - softplus(v_max - v)``, then ``v <- v_min + softplus(v - v_min)``: Chua et al. 2018, appendix A.1. The
    variance is ``exp(v) = exp(v_min) + exp(v_max) sigmoid(v - v_max)``, which costs one exponential in place of four.

    Attributes:
      num_outputs: O.
      hidden: the width of each layer.
      activation: one of tanh, relu, gelu, silu, elu.
    """

    num_outputs: int
    hidden: Sequence[int]
    activation: str

    @nn.compact
    def __call__(self, x: Array) -> Raw:
        """From inputs ``[..., I]`` to outputs ``[..., O]``."""
        for width in self.hidden:
            x = activation_fn(self.activation)(nn.Dense(width, kernel_init=gaussian(1.0))(x))
        mean, free, logit = jnp.split(
            nn.Dense(2 * self.num_outputs + 1, kernel_init=gaussian(0.1))(x),
            (self.num_outputs, 2 * self.num_outputs),
            axis=-1,
        )
        bound = lambda name, value: self.param(  # noqa: E731
            name, nn.initializers.constant(value), (self.num_outputs,), jnp.float32
        ).reshape((1,) * (free.ndim - 1) + (-1,))
        highest, lowest = bound("max_log_variance", 0.5), bound("min_log_variance", -10.0)
        variance = jnp.exp(lowest) + jnp.exp(highest) * nn.sigmoid(free - highest)
        return Raw(mean, variance, logit[..., 0])
