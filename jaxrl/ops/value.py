"""Terms of value losses, one number per sample, and the explained variance.

The caller takes the mean. All functions are elementwise, with shapes ``[...]``. The gradient is stopped on targets and
old values: these are semi-gradient regressions, Sutton and Barto 2018, section 9.3.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.ops import across, numerics

Array = jax.Array


def squared_error_term(value: Array, target: Array) -> Array:
    """``(v - target)^2 / 2``.

    Args:
      value: ``[...]``, the output of the online network.
      target: ``[...]``, held constant.

    Returns:
      ``[...]``, to be minimised.
    """
    return 0.5 * jnp.square(value - jax.lax.stop_gradient(target))


def clipped_value_term(value: Array, old_value: Array, target: Array, clip_epsilon: Any) -> Array:
    """PPO's value loss: ``max((v - target)^2, (clip(v, v_old - eps, v_old + eps) - target)^2) / 2``.

    The maximum has no gradient once the value moved by eps towards the target. It is not in the paper but a detail of
    OpenAI baselines' ppo2. Engstrom et al. 2020, arXiv:2005.12729, section 3.

    Args:
      value: ``[...]``, the output of the online network.
      old_value: ``[...]``, before the update, held constant.
      target: ``[...]``, held constant.
      clip_epsilon: scalar, eps, in units of the value.

    Returns:
      ``[...]``, to be minimised.

    >>> clipped_value_term(jnp.array([3.0, -3.0]), jnp.zeros(2), jnp.array([4.0, 4.0]), 1.0).tolist()
    [4.5, 24.5]
    """
    old_value = jax.lax.stop_gradient(old_value)
    clipped = old_value + jnp.clip(value - old_value, -clip_epsilon, clip_epsilon)
    return jnp.maximum(squared_error_term(value, target), squared_error_term(clipped, target))


def huber_term(value: Array, target: Array, delta: Any = 1.0) -> Array:
    """``e^2 / 2`` where ``|e| <= delta``, else ``delta (|e| - delta / 2)``, with ``e = v - target``.

    Its gradient is the error clipped to ``[-delta, delta]``. Huber 1964; Mnih et al. 2015, methods.

    Args:
      value: ``[...]``, the output of the online network.
      target: ``[...]``, held constant.
      delta: scalar, where the loss turns from quadratic to linear.

    Returns:
      ``[...]``, to be minimised.

    >>> huber_term(jnp.array([0.5, 3.0]), jnp.zeros(2)).tolist()
    [0.125, 2.5]
    """
    error = jnp.abs(value - jax.lax.stop_gradient(target))
    quadratic = jnp.minimum(error, delta)
    return 0.5 * jnp.square(quadratic) + delta * (error - quadratic)


def explained_variance(value: Array, target: Array) -> Array:
    """``1 - Var(target - v) / Var(target)``: 1 is perfect, 0 is as good as a constant, below 0 is worse.

    If environments are split over devices, it is over the samples of all devices (``ops.across``).

    Args:
      value: ``[...]`` the predictions.
      target: ``[...]``, the returns.

    Returns:
      A scalar; 0 if all targets are equal.

    >>> explained_variance(jnp.array([1.0, 1.0, 3.0, 3.0]), jnp.array([0.0, 2.0, 2.0, 4.0])).item()
    0.5
    """
    dtype = numerics.wide(value, target)
    value, target = value.astype(dtype), target.astype(dtype)
    # The ratio has no unit: large numbers are scaled down so that their squares do not overflow.
    largest = -across.least(-jnp.maximum(jnp.max(jnp.abs(value)), jnp.max(jnp.abs(target))))
    scale = jnp.where(largest > 1e15, 1e-6 * largest, 1.0)  # its reciprocal is a normal number
    value, target = value / scale, target / scale
    # Relative to an element, equal targets have a variance of exactly 0; relative to 0, rounding errors would remain.
    target_variance = across.variance(target - across.least(target.reshape(-1)[0]))
    varies = target_variance > 0
    unexplained = across.variance(target - value) / jnp.where(varies, target_variance, 1.0)
    return jnp.where(varies, 1.0 - unexplained, 0.0)


def compress(x: Array, epsilon: Any = 1e-3) -> Array:
    """``h(x) = sign(x) (sqrt(|x| + 1) - 1) + epsilon x`` compresses values of any size for a network to predict.

    Pohlen et al. 2018, "Observe and look further", arXiv:1805.11593, proposition A.2. ``expand`` is its inverse.

    Args:
      x: ``[...]``.
      epsilon: scalar above 0, the slope far from 0.

    >>> [round(x, 3) for x in compress(jnp.array([-3.0, 0.0, 99.0]), 0.01).tolist()]
    [-1.03, 0.0, 9.99]
    """
    return jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + 1.0) - 1.0) + epsilon * x


def expand(x: Array, epsilon: Any = 1e-3) -> Array:
    """The inverse of ``compress``: ``h(expand(x)) = x``.

    Args:
      x: ``[...]``.
      epsilon: scalar, as in ``compress``.

    >>> [round(x, 3) for x in expand(compress(jnp.array([-3.0, 0.0, 99.0]))).tolist()]
    [-3.0, 0.0, 99.0]
    """
    # The quadratic formula with the root in the denominator, since a difference of square roots would cancel in
    # float32.
    shifted = jnp.abs(x) + 1.0 + epsilon
    inner = shifted / (jnp.sqrt(0.25 + epsilon * shifted) + 0.5)
    return jnp.sign(x) * (jnp.square(inner) - 1.0)


__all__ = ["clipped_value_term", "compress", "expand", "explained_variance", "huber_term", "squared_error_term"]


def __dir__() -> list[str]:
    return sorted(__all__)
