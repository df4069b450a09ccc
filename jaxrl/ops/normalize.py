"""Running mean and standard deviation, and the running return by which rewards are scaled.

Statistics are float32 for every input dtype. They are kept as mean and variance, not as sums: a float32 sum of squares
and a float32 count stop growing at different times, and their ratio drifts. Mean and variance merely change slowly.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops import across

Array = jax.Array

LARGEST_SAMPLE = 1e15
"""The bound to which samples are clipped, so that the sum of their squares fits into float32."""


class RunningStatistics(NamedTuple):
    """The mean and variance of all samples so far.

    Attributes:
      num_samples: scalar, exact up to 2^24. When a batch becomes smaller than half a unit in the last place, the count
        stops growing, and the statistics become an average over a window of that length.
      mean: ``[*shape]``.
      variance: ``[*shape]``, the mean squared deviation.
    """

    num_samples: Array
    mean: Array
    variance: Array


def init_statistics(shape: tuple[int, ...]) -> RunningStatistics:
    """Returns the statistics before any sample.

    Args:
      shape: the shape of one sample.
    """
    return RunningStatistics(jnp.zeros((), jnp.float32), jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32))


def update_statistics(stats: RunningStatistics, batch: Array) -> RunningStatistics:
    """Adds samples by the parallel rule.

    With ``w = n / (count + n)`` and ``d = batch mean - mean``: ``mean += w d`` and
    ``variance += w (batch variance - variance + (1 - w) d^2)``. Chan, Golub and LeVeque 1979, "Updating formulae and a
    pairwise algorithm for computing sample variances". If environments are split over devices, the samples of all
    devices count (``ops.across``).

    Args:
      stats: the statistics of samples ``[*shape]``.
      batch: ``[..., *shape]`` with any number of leading axes and any real dtype.

    Returns:
      The statistics of the old and the new samples.

    Raises:
      ValueError: the trailing axes of ``batch`` are not ``shape``.

    >>> stats = update_statistics(init_statistics(()), jnp.array([1, 3, 5, 7]))
    >>> stats.num_samples.item(), stats.mean.item(), stats.variance.item()
    (4.0, 4.0, 5.0)
    """
    shape = stats.mean.shape
    samples = _trailing("batch", batch, shape).astype(jnp.float32).reshape(-1, *shape)
    samples = jnp.clip(samples, -LARGEST_SAMPLE, LARGEST_SAMPLE)
    n = len(samples) * across.size()
    count = stats.num_samples + n
    weight = n / count
    # Deviations from the running mean, not from 0, keep sums and their rounding errors small.
    deviation = samples - stats.mean[None]
    shift = across.mean(jnp.mean(deviation, axis=0))
    batch_variance = across.mean(jnp.mean(jnp.square(deviation - shift[None]), axis=0))
    growth = batch_variance - stats.variance + (1.0 - weight) * jnp.square(shift)
    return RunningStatistics(count, stats.mean + weight * shift, stats.variance + weight * growth)


def standard_deviation(stats: RunningStatistics, epsilon: Any = 1e-8) -> Array:
    """The divisor ``sqrt(variance + epsilon)``; 1 before any data.

    Args:
      stats: the result of ``update_statistics``.
      epsilon: scalar, avoids 0 if all samples were equal.

    Returns:
      ``[*shape]``.
    """
    return jnp.sqrt(jnp.where(stats.num_samples > 0, stats.variance + epsilon, 1.0))


def standardize(
    stats: RunningStatistics, x: Array, clip: Any = 10.0, epsilon: Any = 1e-8, *, flags: Any = None
) -> Array:
    """``(x - mean) / sqrt(variance + epsilon)``, clipped to ``[-clip, clip]``; before any data, only clipped.

    Args:
      stats: the statistics of samples ``[*shape]``.
      x: ``[..., *shape]`` with any number of leading axes and any real dtype.
      clip: scalar, in standard deviations.
      epsilon: scalar, added to the variance.
      flags: ``[*shape]`` bool, True for binary features, which are not standardised; None if there are none. A feature
        that was always 1 has mean 1 and would be standardised to 0.

    Returns:
      ``[..., *shape]`` float32.

    Raises:
      ValueError: the trailing axes of ``x`` are not ``shape``.
    """
    x = _trailing("x", x, stats.mean.shape).astype(jnp.float32)
    leading = (1,) * (x.ndim - stats.mean.ndim)
    mean = stats.mean.reshape(leading + stats.mean.shape)
    deviation = standard_deviation(stats, epsilon).reshape(leading + stats.mean.shape)
    standardized = jnp.clip((x - mean) / deviation, -clip, clip)
    return standardized if flags is None else jnp.where(flags.reshape(leading + flags.shape), x, standardized)


def discounted_return_trace(trace: Array, r_t: Array, discount_t: Array, continue_t: Array) -> tuple[Array, Array]:
    """The discounted sum of the rewards so far in each episode: ``R_t = discount_{t-1} R_{t-1} + r_t``.

    The VecNormalize of OpenAI baselines divides rewards by its standard deviation. It depends on the past only, so it
    can continue from rollout to rollout; an episode's first R is its first reward.

    Args:
      trace: ``[B]``, the second result of the previous call; zeros at first.
      r_t: ``[T, B]`` rewards, t in [1, T].
      discount_t: ``[T, B]`` discounts, gamma included, t in [1, T].
      continue_t: ``[T, B]`` bool, False where an episode ended, t in [1, T].

    Returns:
      ``(R_t [T, B], trace [B])``, t in [1, T]. The trace is ``discount_T R_T``, or 0 where the episode ended.

    >>> trace, r_t, discount_t = jnp.zeros(1), jnp.ones((3, 1)), jnp.full((3, 1), 0.5)
    >>> traces, trace = discounted_return_trace(trace, r_t, discount_t, jnp.array([[True], [False], [True]]))
    >>> traces[:, 0].tolist(), trace.tolist()
    ([1.0, 1.5, 1.0], [0.5])
    """
    carry_on_t = jnp.where(continue_t, discount_t, 0.0).astype(trace.dtype)

    def step(trace: Array, inputs: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, carry_on = inputs
        discounted_return = trace + reward
        return carry_on * discounted_return, discounted_return

    trace, traces = jax.lax.scan(step, trace, (r_t.astype(trace.dtype), carry_on_t))
    return traces, trace


def _trailing(name: str, x: Array, shape: tuple[int, ...]) -> Array:
    x = jnp.asarray(x)
    if x.shape[x.ndim - len(shape) :] != shape:
        raise ValueError(f"{name}: got shape {x.shape}, must end in {shape}, the shape of a sample of the statistics")
    return x


__all__ = [
    "LARGEST_SAMPLE",
    "RunningStatistics",
    "discounted_return_trace",
    "init_statistics",
    "standard_deviation",
    "standardize",
    "update_statistics",
]


def __dir__() -> list[str]:
    return sorted(__all__)
