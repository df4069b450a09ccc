"""Terms of policy-gradient losses, one number per sample.

The caller takes the mean over the samples that count (padding, masks, weights). All functions are elementwise, with
shapes ``[...]``, except that logits are ``[..., A]`` for A actions. The gradient is stopped on advantages, which the
papers hold constant.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.ops import across, numerics

Array = jax.Array


def policy_gradient_term(log_prob: Array, advantage: Array) -> Array:
    """The loss whose gradient is the negative policy gradient: ``-log pi(a|s) A``.

    Williams 1992, "Simple statistical gradient-following algorithms"; Sutton et al. 2000.

    Args:
      log_prob: ``[...]``, of the actions taken, under the current policy.
      advantage: ``[...]``, held constant.

    Returns:
      ``[...]``, to be minimised.
    """
    return -log_prob * jax.lax.stop_gradient(advantage)


def surrogate_term(log_ratio: Array, advantage: Array) -> Array:
    """The importance-weighted advantage of actions of another policy: ``-r A``.

    Its gradient at r = 1 is the negative policy gradient. Schulman et al. 2015, arXiv:1502.05477, eq. 14.

    Args:
      log_ratio: ``[...]``, ``log r = log pi(a|s) - log pi_old(a|s)`` of the actions taken by pi_old.
      advantage: ``[...]``, held constant.

    Returns:
      ``[...]``, to be minimised.
    """
    return -_ratio(log_ratio) * jax.lax.stop_gradient(advantage)


def ppo_clip_term(log_ratio: Array, advantage: Array, clip_epsilon: Any) -> Array:
    """PPO's clipped surrogate: ``-min(r A, clip(r, 1 - eps, 1 + eps) A)``.

    The gradient is 0 once the ratio has moved by more than eps in the direction of the advantage. Schulman et al. 2017,
    arXiv:1707.06347, eq. 7.

    Args:
      log_ratio: ``[...]``, ``log r = log pi(a|s) - log pi_old(a|s)`` of the actions taken by pi_old.
      advantage: ``[...]``, held constant.
      clip_epsilon: scalar, eps.

    Returns:
      ``[...]``, to be minimised.

    >>> log_ratio, advantage = jnp.log(jnp.array([1.5, 0.5, 1.5, 0.5])), jnp.array([1.0, 1.0, -1.0, -1.0])
    >>> [f"{term:.2f}" for term in ppo_clip_term(log_ratio, advantage, 0.25)]
    ['-1.25', '-0.50', '1.50', '0.75']
    """
    advantage = jax.lax.stop_gradient(advantage)
    ratio = _ratio(log_ratio)
    # The minimum selects the clipped ratio exactly where the ratio has passed the bound on the advantage's side.
    # Written as one selection, its gradient needs no rule for ties of a minimum, and half the kernels.
    rewarded = advantage >= 0.0
    bound = jnp.where(rewarded, 1.0 + clip_epsilon, 1.0 - clip_epsilon)
    beyond = jnp.where(rewarded, ratio > bound, ratio < bound)
    return -jnp.where(beyond, bound, ratio) * advantage


def approximate_kl(log_ratio: Array) -> Array:
    """Schulman's estimator k3 of ``KL(q || p)``: ``r - 1 - log r``, never negative, unbiased under q.

    With samples of pi_old and ``r = pi / pi_old`` it estimates ``KL(pi_old || pi)``, as a diagnostic or, since its
    gradient is unbiased too, as PPO's penalty (Schulman et al. 2017, eq. 8). With samples of pi and ``r = pi_ref /
    pi`` it estimates ``KL(pi || pi_ref)``. Schulman 2020, "Approximating KL divergence",
    joschu.net/blog/kl-approx.html.

    Args:
      log_ratio: ``[...]``, ``log p(a|s) - log q(a|s)`` of actions drawn from q.

    Returns:
      ``[...]``, whose mean is the estimate, in nats.
    """
    # r - 1 would lose significant digits where expm1 does not: near r = 1 the result is log_ratio^2 / 2.
    log_ratio = jnp.minimum(log_ratio, numerics.max_log_ratio(log_ratio.dtype))
    return jnp.expm1(log_ratio) - log_ratio


def clip_fraction(log_ratio: Array, clip_epsilon: Any) -> Array:
    """1 where the ratio is outside of ``[1 - eps, 1 + eps]``, else 0. The mean, the clip fraction, is a diagnostic.

    Args:
      log_ratio: ``[...]``, ``log pi(a|s) - log pi_old(a|s)``.
      clip_epsilon: scalar, eps.

    Returns:
      ``[...]`` float32.
    """
    return (jnp.abs(_ratio(log_ratio) - 1.0) > clip_epsilon).astype(jnp.float32)


def categorical_entropy(logits: Array) -> Array:
    """``H(p) = -sum_a p_a log p_a``. Masked actions, with logit ``-inf`` or very negative, add nothing.

    Args:
      logits: ``[..., A]``.

    Returns:
      ``[...]`` in nats.

    >>> categorical_entropy(jnp.array([0.0, 0.0, -jnp.inf]))
    Array(0.6931472, dtype=float32)
    """
    log_p = numerics.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def categorical_kl(p_logits: Array, q_logits: Array) -> Array:
    """``KL(p || q) = sum_a p_a (log p_a - log q_a)``. Actions masked in p add nothing.

    Where p has mass and q has none, the result is large and finite instead of infinite, so that gradients are finite.

    Args:
      p_logits: ``[..., A]``.
      q_logits: ``[..., A]``.

    Returns:
      ``[...]`` in nats.
    """
    log_p = numerics.log_softmax(p_logits)
    log_q = numerics.log_softmax(q_logits)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def normalize_advantage(advantage: Array, weight: Array | None = None, epsilon: Any = 1e-8) -> Array:
    """Advantages with mean 0 and standard deviation 1: ``(A - mean A) / (std A + epsilon)``.

    If environments are split over devices, mean and standard deviation are over all devices (``ops.across``).

    Args:
      advantage: ``[...]``, the whole batch or minibatch; the sum of the squares must fit into float32.
      weight: ``[...]``, the weight of each sample in the mean and standard deviation; None for equal weights.
      epsilon: scalar, added to the standard deviation.

    Returns:
      ``[...]``.
    """
    dtype = advantage.dtype
    advantage = advantage.astype(numerics.wide(advantage))
    if weight is None:
        mean = across.mean(jnp.mean(advantage))
        return ((advantage - mean) / (jnp.sqrt(across.variance(advantage)) + epsilon)).astype(dtype)
    total = jnp.maximum(across.total(jnp.sum(weight)), 1.0)
    centred = advantage - across.total(jnp.sum(advantage * weight)) / total
    deviation = jnp.sqrt(across.total(jnp.sum(centred**2 * weight)) / total)
    return (centred / (deviation + epsilon)).astype(dtype)


def _ratio(log_ratio: Array) -> Array:
    return jnp.exp(jnp.minimum(log_ratio, numerics.max_log_ratio(log_ratio.dtype)))


__all__ = [
    "approximate_kl",
    "categorical_entropy",
    "categorical_kl",
    "clip_fraction",
    "normalize_advantage",
    "policy_gradient_term",
    "ppo_clip_term",
    "surrogate_term",
]


def __dir__() -> list[str]:
    return sorted(__all__)
