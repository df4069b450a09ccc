"""Likelihoods of pixels and of other numbers, given the outputs of a decoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.arguments import POSITIVE, check_float
from jaxrl.types import Array


class Likelihood(NamedTuple):
    """A distribution of each number ``x`` given an output of the decoder.

    Attributes:
      mean: ``outputs [...] -> [...]``.
      log_prob: ``(outputs [...], x [...]) -> [...]``.
    """

    mean: Callable[[Array], Array]
    log_prob: Callable[[Array, Array], Array]


BERNOULLI = Likelihood(jax.nn.sigmoid, lambda logits, x: x * logits - jax.nn.softplus(logits))
"""``x log p + (1 - x) log(1 - p)``, where p is the sigmoid of the output; for x in [0, 1]."""

SUM_OF_SQUARES = Likelihood(jax.nn.sigmoid, lambda logits, x: -jnp.square(x - jax.nn.sigmoid(logits)))
"""``-(x - p)^2``, p = sigmoid(output), as in Ha and Schmidhuber 2018; for x in [0, 1]."""


def normal(scale: Any = 1.0) -> Likelihood:
    """``N(x; output, scale^2)``.

    Args:
      scale: the standard deviation; may be a tracer.

    >>> round(float(normal(2.0).log_prob(jnp.array(1.0), jnp.array(1.0))), 4)
    -1.6121
    """
    check_float("scale", scale, POSITIVE)
    constant = 0.5 * math.log(2.0 * math.pi)
    log_prob = lambda mean, x: -0.5 * jnp.square((x - mean) / scale) - jnp.log(scale) - constant  # noqa: E731
    return Likelihood(lambda mean: mean, log_prob)
