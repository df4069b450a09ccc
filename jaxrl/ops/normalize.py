"""Running mean and standard deviation, and the running return that rewards are scaled by.

Statistics are float32 whatever comes in. They are kept as mean and variance, not as sums: a float32 sum of squares
and a float32 count stop growing at different times, and their ratio drifts. Mean and variance only grow inert.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops import across

Array = jax.Array

LARGEST_SAMPLE = 1e15
"""Samples are clipped to it, so that the sum of their squares fits into float32."""


class RunningStatistics(NamedTuple):
    """The mean and variance of all samples so far.

    Attributes:
      num_samples: scalar, how many; exact to 2^24. Far beyond, where a batch is less than half a unit in its last
        place, it stands still, and the statistics become an average over a window of that length.
      mean: ``[*shape]``.
      variance: ``[*shape]``, mean squared deviation.
    """

    num_samples: Array
    mean: Array
    variance: Array


def init_statistics(shape: tuple[int, ...]) -> RunningStatistics:
    """Statistics before any sample.

    Args:
      shape: of one sample.
    """
    return RunningStatistics(jnp.zeros((), jnp.float32), jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32))


def update_statistics(stats: RunningStatistics, batch: Array) -> RunningStatistics:
    """Adds samples, by the parallel rule.

    With ``w = n / (count + n)`` and ``d = batch mean - mean``: ``mean += w d`` and
    ``variance += w (batch variance - variance + (1 - w) d^2)``. Chan, Golub and LeVeque 1979, "Updating formulae and a
    pairwise algorithm for computing sample variances". Samples of all devices count, where environments are split over
    several (``ops.across``).

    Args:
      stats: of samples ``[*shape]``.
      batch: ``[..., *shape]`` any number of leading axes; any real dtype.

    Returns:
      The statistics of the old samples and the new.

    Raises:
      ValueError: the trailing axes of ``batch`` are not ``shape``.

    >>> stats = update_statistics(init_statistics(()), jnp.array([1, 3, 5, 7]))
    >>> stats.num_samples.item(), stats.mean.item(), stats.variance.item()
    (4.0, 4.0, 5.0)
    """
    shape = stats.mean.shape
    samples = _trailing(batch, shape).astype(jnp.float32).reshape(-1, *shape)
    samples = jnp.clip(samples, -LARGEST_SAMPLE, LARGEST_SAMPLE)
    n = len(samples) * across.size()
    count = stats.num_samples + n
    weight = n / count
    # From the running mean, not from 0: sums stay small, and so do their rounding errors.
    deviation = samples - stats.mean[None]
    shift = across.mean(jnp.mean(deviation, axis=0))
    batch_variance = across.mean(jnp.mean(jnp.square(deviation - shift[None]), axis=0))
    growth = batch_variance - stats.variance + (1.0 - weight) * jnp.square(shift)
    return RunningStatistics(count, stats.mean + weight * shift, stats.variance + weight * growth)


def standard_deviation(stats: RunningStatistics, epsilon: Any = 1e-8) -> Array:
    """``sqrt(variance + epsilon)``, to divide by; 1 before any data.

    Args:
      stats: from ``update_statistics``.
      epsilon: scalar, keeps it from 0 where all samples were equal.

    Returns:
      ``[*shape]``.
    """
    return jnp.sqrt(jnp.where(stats.num_samples > 0, stats.variance + epsilon, 1.0))


def standardize(
    stats: RunningStatistics, x: Array, clip: Any = 10.0, epsilon: Any = 1e-8, *, flags: Any = None
) -> Array:
    """``(x - mean) / sqrt(variance + epsilon)``, clipped to ``[-clip, clip]``; before any data, only clipped.

    Args:
      stats: of samples ``[*shape]``.
      x: ``[..., *shape]`` any number of leading axes; any real dtype.
      clip: scalar, in standard deviations.
      epsilon: scalar, added to the variance.
      flags: ``[*shape]`` bool, True for binary features, which are not standardised; None for none. A feature that was
        1 in all samples so far has mean 1, and would be standardised to 0.

    Returns:
      ``[..., *shape]`` float32.

    Raises:
      ValueError: the trailing axes of ``x`` are not ``shape``.
    """
    x = _trailing(x, stats.mean.shape).astype(jnp.float32)
    leading = (1,) * (x.ndim - stats.mean.ndim)
    mean = stats.mean.reshape(leading + stats.mean.shape)
    deviation = standard_deviation(stats, epsilon).reshape(leading + stats.mean.shape)
    standardized = jnp.clip((x - mean) / deviation, -clip, clip)
    return standardized if flags is None else jnp.where(flags.reshape(leading + flags.shape), x, standardized)


def discounted_return_trace(trace: Array, r_t: Array, discount_t: Array, continue_t: Array) -> tuple[Array, Array]:
    """The discounted sum of the rewards so far in each episode: ``R_t = discount_{t-1} R_{t-1} + r_t``.

    Rewards are divided by its standard deviation in OpenAI baselines' VecNormalize. It looks back, so it can run on
    from rollout to rollout; an episode's first R is its first reward.

    Args:
      trace: ``[B]`` what the past hands on: the second result of the call before, zeros at first.
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


def _trailing(x: Array, shape: tuple[int, ...]) -> Array:
    x = jnp.asarray(x)
    if x.shape[x.ndim - len(shape) :] != shape:
        raise ValueError(f"statistics are of samples of shape {shape}, got an array of {x.shape}: end it on {shape}")
    return x
