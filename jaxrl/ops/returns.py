"""Returns and advantages from trajectories.

T is time; every array is time-major ``[T, ...]``, with batch axes last. Names carry the time, so that an off-by-one
error is visible. At index i of a trajectory

  v_tm1        the value of the observation that was acted on
  r_t          the reward of that action
  discount_t   the weight of the next value, gamma included: see ``bootstrap_discount``
  v_t          the value of the true next observation: at an episode's end the final one, never the reset one
  continue_t   False where index i + 1 belongs to another episode: see ``continues``

Bootstrap by ``discount_t``; stop the recursion where ``continue_t`` is False. There, and at index T-1, where the
array ends, the future is ``discount_t * v_t``: 0 if the task terminated (its discount is 0), and the bootstrapped
value if the episode was truncated. A discount of ``-gamma`` means that the other player moves next.

All functions are differentiable. The losses stop the gradient on targets and advantages.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops import numerics

Array = jax.Array


def bootstrap_discount(discount: Array, gamma: Any) -> Array:
    """The factor of the value of the next observation: ``gamma * discount``.

    Args:
      discount: ``[T, ...]``, of the trajectory: 0 where terminated, -1 where the player to move changes, else 1.
      gamma: scalar.

    Returns:
      ``[T, ...]``, the ``discount_t`` of every function here.
    """
    return gamma * discount


def continues(terminated: Array, truncated: Array) -> Array:
    """True where the next index belongs to the same episode: ``not (terminated or truncated)``.

    Args:
      terminated: ``[T, ...]`` bool, the task ended.
      truncated: ``[T, ...]`` bool, the episode was stopped although the task goes on.

    Returns:
      ``[T, ...]`` bool, the ``continue_t`` of every function here.
    """
    return jnp.logical_not(jnp.logical_or(terminated, truncated))


def discounted_returns(r_t: Array, discount_t: Array, v_t: Array, continue_t: Array) -> Array:
    """The discounted sum of rewards up to the end of the episode or array, bootstrapped there only.

    ``G_{t-1} = r_t + discount_t G_t``. For Monte-Carlo returns pass zeros as ``v_t``.

    Args:
      r_t: ``[T, ...]`` rewards, t in [1, T].
      discount_t: ``[T, ...]`` discounts, gamma included, t in [1, T].
      v_t: ``[T, ...]`` values of the true next observations, t in [1, T].
      continue_t: ``[T, ...]`` bool, False where an episode ended, t in [1, T].

    Returns:
      ``[T, ...]`` returns ``G_{t-1}``, one for each ``v_tm1``, t in [1, T].

    >>> r_t, discount_t, v_t = jnp.ones(3), jnp.full(3, 0.5), jnp.array([0.0, 0.0, 8.0])
    >>> discounted_returns(r_t, discount_t, v_t, jnp.array([True, True, True])).tolist()
    [2.75, 3.5, 5.0]
    >>> discounted_returns(r_t, discount_t, v_t, jnp.array([True, False, True])).tolist()
    [1.5, 1.0, 5.0]
    """
    return lambda_returns(r_t, discount_t, v_t, continue_t, 1.0)


def n_step_returns(r_t: Array, discount_t: Array, v_t: Array, continue_t: Array, n: int) -> Array:
    """The discounted sum of n rewards and the value after them.

    ``G_{t-1} = r_t + discount_t r_{t+1} + ... + (discount_t ... discount_{t+n-1}) v_{t+n-1}``. If the episode or the
    array ends inside the window, the window is shorter and bootstraps there. Sutton and Barto 2018, eq. 7.1.

    Args:
      r_t: ``[T, ...]`` rewards, t in [1, T].
      discount_t: ``[T, ...]`` discounts, gamma included, t in [1, T].
      v_t: ``[T, ...]`` values of the true next observations, t in [1, T].
      continue_t: ``[T, ...]`` bool, False where an episode ended, t in [1, T].
      n: Python int, at least 1.

    Returns:
      ``[T, ...]`` returns ``G_{t-1}``, t in [1, T].

    Raises:
      ValueError: n is less than 1.

    >>> zeros, values = jnp.zeros(3), jnp.array([8.0, 8.0, 8.0])
    >>> n_step_returns(zeros, jnp.full(3, 0.5), values, jnp.array([True, True, True]), n=2).tolist()
    [2.0, 2.0, 4.0]
    """
    if n < 1:
        raise ValueError(f"n: got {n}, must be at least 1, the number of rewards before the value")
    continue_t = _cut_last(continue_t)

    def one_step_longer(_: Array, next_returns: Array) -> Array:
        return r_t + discount_t * jnp.where(continue_t, _following(next_returns), v_t)

    # A window longer than the array is the whole array.
    return jax.lax.fori_loop(1, min(n, len(r_t)), one_step_longer, r_t + discount_t * v_t)


def lambda_returns(r_t: Array, discount_t: Array, v_t: Array, continue_t: Array, lambda_: Any) -> Array:
    """The geometric mixture of all n-step returns, the target of TD(lambda).

    ``G_{t-1} = r_t + discount_t ((1 - lambda) v_t + lambda G_t)``. Sutton and Barto 2018, eq. 12.18.

    Args:
      r_t: ``[T, ...]`` rewards, t in [1, T].
      discount_t: ``[T, ...]`` discounts, gamma included, t in [1, T].
      v_t: ``[T, ...]`` values of the true next observations, t in [1, T].
      continue_t: ``[T, ...]`` bool, False where an episode ended, t in [1, T].
      lambda_: scalar or ``[T, ...]``; 0 is the one-step target, 1 the discounted return.

    Returns:
      ``[T, ...]`` returns ``G_{t-1}``, t in [1, T].

    >>> r_t, discount_t, v_t = jnp.ones(2), jnp.full(2, 0.5), jnp.array([4.0, 8.0])
    >>> lambda_returns(r_t, discount_t, v_t, jnp.array([True, True]), 0.5).tolist()
    [3.25, 5.0]
    """
    continue_t = _cut_last(continue_t)
    bootstrap = discount_t * v_t
    offset_t = r_t + jnp.where(continue_t, (1.0 - lambda_) * bootstrap, bootstrap)
    slope_t = jnp.where(continue_t, lambda_ * discount_t, 0.0)
    return _backward(offset_t, slope_t)


def gae(r_t: Array, discount_t: Array, v_tm1: Array, v_t: Array, continue_t: Array, lambda_: Any) -> Array:
    """Generalised advantage estimation: a discounted sum of TD errors.

    ``A_{t-1} = delta_t + discount_t lambda A_t`` with ``delta_t = r_t + discount_t v_t - v_tm1``; in the paper's own
    indices ``A_t = sum_l (gamma lambda)^l delta_{t+l}``. Schulman et al. 2016, arXiv:1506.02438, eq. 16.

    Args:
      r_t: ``[T, ...]`` rewards, t in [1, T].
      discount_t: ``[T, ...]`` discounts, gamma included, t in [1, T].
      v_tm1: ``[T, ...]`` values of the observations acted on, t in [1, T].
      v_t: ``[T, ...]`` values of the true next observations, t in [1, T].
      continue_t: ``[T, ...]`` bool, False where an episode ended, t in [1, T].
      lambda_: scalar or ``[T, ...]``.

    Returns:
      ``[T, ...]`` advantages ``A_{t-1}``, t in [1, T]. Added to ``v_tm1`` they are the lambda-returns.

    >>> r_t, discount_t, values = jnp.ones(2), jnp.full(2, 0.5), jnp.array([2.0, 4.0, 8.0])
    >>> gae(r_t, discount_t, values[:-1], values[1:], jnp.array([True, True]), 0.5).tolist()
    [1.25, 1.0]
    """
    delta_t = r_t + discount_t * v_t - v_tm1
    return _backward(delta_t, jnp.where(continue_t, lambda_ * discount_t, 0.0))


class VTrace(NamedTuple):
    """The result of V-trace.

    Attributes:
      vs: ``[T, ...]``, the value targets of the observations acted on.
      pg_advantage: ``[T, ...]``, the factor of ``grad log pi(a|s)``, the clipped ratio included.
    """

    vs: Array
    pg_advantage: Array


def vtrace(
    r_t: Array,
    discount_t: Array,
    v_tm1: Array,
    v_t: Array,
    continue_t: Array,
    log_rho_tm1: Array,
    lambda_: Any = 1.0,
    *,
    clip_rho: Any = 1.0,
    clip_c: Any = 1.0,
    clip_pg_rho: Any = 1.0,
) -> VTrace:
    """Off-policy value targets and advantages by clipped importance weights.

    ``vs_{t-1} - v_{t-1} = rho_{t-1} delta_t + discount_t c_{t-1} (vs_t - v_t)``, with
    ``rho = min(clip_rho, pi/mu)`` and ``c = lambda min(clip_c, pi/mu)``; the advantage is ``rho (q_{t-1} - v_{t-1})``
    with ``q_{t-1} = r_t + discount_t ((1 - lambda) v_t + lambda vs_t)``. Espeholt et al. 2018, arXiv:1802.01561, eq. 1
    and section 4.2, where q has lambda = 1. With lambda in q, the on-policy advantage equals GAE for every lambda.

    Args:
      r_t: ``[T, ...]`` rewards, t in [1, T].
      discount_t: ``[T, ...]`` discounts, gamma included, t in [1, T].
      v_tm1: ``[T, ...]`` values of the observations acted on, t in [1, T].
      v_t: ``[T, ...]`` values of the true next observations, t in [1, T].
      continue_t: ``[T, ...]`` bool, False where an episode ended, t in [1, T].
      log_rho_tm1: ``[T, ...]``, ``log pi(a|s) - log mu(a|s)`` of the actions taken by the behaviour policy mu.
      lambda_: scalar or ``[T, ...]``.
      clip_rho: the bound of rho; it selects the policy whose value is learned, from mu's at 0 to pi's at infinity.
      clip_c: the bound of c; it trades the speed of corrections against their variance.
      clip_pg_rho: the bound of the weight in the advantage.

    Returns:
      ``VTrace``, t in [1, T].
    """
    rho_tm1 = _clipped_ratio(log_rho_tm1, clip_rho)
    c_tm1 = lambda_ * _clipped_ratio(log_rho_tm1, clip_c)
    delta_t = rho_tm1 * (r_t + discount_t * v_t - v_tm1)
    correction_tm1 = _backward(delta_t, jnp.where(continue_t, discount_t * c_tm1, 0.0))
    correction_t = jnp.where(_cut_last(continue_t), _following(correction_tm1), 0.0)
    q_tm1 = r_t + discount_t * (v_t + lambda_ * correction_t)
    return VTrace(v_tm1 + correction_tm1, _clipped_ratio(log_rho_tm1, clip_pg_rho) * (q_tm1 - v_tm1))


def _backward(offset_t: Array, slope_t: Array) -> Array:
    """Solves ``x_{t-1} = offset_t + slope_t x_t`` backwards from the last index, with 0 after it."""
    dtype = jnp.result_type(offset_t, slope_t)
    offset_t, slope_t = offset_t.astype(dtype), slope_t.astype(dtype)

    def step(x_t: Array, offset_and_slope: tuple[Array, Array]) -> tuple[Array, Array]:
        offset, slope = offset_and_slope
        x_tm1 = offset + slope * x_t
        return x_tm1, x_tm1

    return jax.lax.scan(step, jnp.zeros_like(offset_t[0]), (offset_t, slope_t), reverse=True)[1]


def _cut_last(continue_t: Array) -> Array:
    """Sets the last index to False, because the array ends there."""
    return jnp.concatenate([continue_t[:-1], jnp.zeros_like(continue_t[-1:])])


def _following(x_tm1: Array) -> Array:
    """The next entry at each index; the last entry is repeated."""
    return jnp.concatenate([x_tm1[1:], x_tm1[-1:]])


def _clipped_ratio(log_ratio: Array, bound: Any) -> Array:
    """``min(bound, exp(log_ratio))``, clipped before the exponential, whose overflow would make gradients NaN."""
    log_ratio = jnp.minimum(log_ratio, numerics.max_log_ratio(log_ratio.dtype))
    return jnp.exp(jnp.minimum(log_ratio, jnp.log(jnp.asarray(bound, log_ratio.dtype))))


__all__ = [
    "VTrace",
    "bootstrap_discount",
    "continues",
    "discounted_returns",
    "gae",
    "lambda_returns",
    "n_step_returns",
    "vtrace",
]


def __dir__() -> list[str]:
    return sorted(__all__)
