"""Per-token quantities of texts: means under a mask, KL divergences from a reference, and rewards of tokens.

A text is a row of tokens ``[..., N]`` with a mask that is True for its own tokens, up to and including the one that
ends it. Whatever stands at padding, NaN included, has no effect. Legend: N tokens of a text, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.ops import across, numerics

Array = jax.Array


def masked_sum(x: Array, mask: Array, axis: int | None = None) -> Array:
    """The sum of ``x`` where ``mask``, over one axis or all.

    Args:
      x: ``[..., N]``; its values at padding are never read.
      mask: ``[..., N]`` bool.
      axis: the axis; None for all.

    >>> masked_sum(jnp.array([1.0, 2.0, jnp.nan]), jnp.array([True, True, False])).item()
    3.0
    """
    return jnp.sum(jnp.where(mask, x, 0), axis=axis, dtype=x.dtype)


def masked_mean(x: Array, mask: Array) -> Array:
    """The mean of ``x`` where ``mask``, over all axes; 0 where nothing counts.

    If environments are split over devices, all tokens of all devices count (``ops.across``). Do not differentiate
    through it there.

    Args:
      x: ``[..., N]``; its values at padding are never read.
      mask: ``[..., N]`` bool.
    """
    dtype = x.dtype
    count = across.total(jnp.sum(mask, dtype=jnp.float32))
    wide = x.astype(numerics.wide(x))
    return (across.total(masked_sum(wide, mask)) / jnp.maximum(count, 1.0)).astype(dtype)


def whiten(x: Array, mask: Array, epsilon: Any = 1e-8) -> Array:
    """``(x - mean) / (std + epsilon)`` with mean and standard deviation over what the mask shows; 0 at padding.

    If environments are split over devices, mean and standard deviation are over all devices (``ops.across``).

    Args:
      x: ``[..., N]``; the sum of the squares must fit into float32.
      mask: ``[..., N]`` bool.
      epsilon: scalar, added to the standard deviation.

    >>> whiten(jnp.array([1.0, 3.0, 99.0]), jnp.array([True, True, False])).tolist()
    [-1.0, 1.0, 0.0]
    """
    wide = jnp.where(mask, x, 0).astype(numerics.wide(x))
    centred = jnp.where(mask, wide - masked_mean(wide, mask), 0)
    deviation = jnp.sqrt(masked_mean(jnp.square(centred), mask))
    return (centred / (deviation + epsilon)).astype(x.dtype)


def last(mask: Array) -> Array:
    """``[..., N]`` bool, True at the last token of each text; nowhere in an empty one.

    >>> last(jnp.array([[True, True, False], [True, True, True]])).tolist()
    [[False, True, False], [False, False, True]]
    """
    position = jax.lax.broadcasted_iota(jnp.int32, mask.shape, mask.ndim - 1)
    end = jnp.max(jnp.where(mask, position, -1), axis=-1, keepdims=True)
    return mask & (position == end)


def kl_k1(log_ratio: Array) -> Array:
    """The estimator k1 of ``KL(pi || pi_ref)`` at tokens drawn from pi: ``log pi - log pi_ref``.

    It is unbiased. As a reward it gives the gradient of the divergence; as a loss its gradient is 0 in expectation.
    Schulman 2020, "Approximating KL divergence", joschu.net/blog/kl-approx.html.

    Args:
      log_ratio: ``[...]``, ``log pi_ref - log pi`` of the sampled tokens, as ``kl_k3`` takes it.
    """
    return -log_ratio


def kl_k3(log_ratio: Array) -> Array:
    """The estimator k3 of ``KL(pi || pi_ref)`` at tokens drawn from pi: ``r - 1 - log r`` with ``r = pi_ref / pi``.

    It is unbiased and never negative. As a loss, its gradient at tokens drawn from pi is that of ``KL(pi_ref || pi)``,
    the other direction, so a policy trained with it ends elsewhere than with ``kl_k1`` in the reward. It is GRPO's
    term: Shao et al. 2024, arXiv:2402.03300, eq. 4.

    Args:
      log_ratio: ``[...]``, ``log pi_ref - log pi`` of the sampled tokens.

    >>> kl_k3(jnp.log(jnp.array([1.0, 2.0]))).tolist()
    [0.0, 0.3068528175354004]
    """
    log_ratio = jnp.minimum(log_ratio, numerics.max_log_ratio(log_ratio.dtype))
    return jnp.expm1(log_ratio) - log_ratio


def token_rewards(score: Array, kl: Array, mask: Array, kl_coef: Any) -> Array:
    """The reward of each token: ``-beta kl_t``, and the score of the text at its last own token.

    Ziegler et al. 2019, arXiv:1909.08593, eq. 2. Padding gets 0.

    Args:
      score: ``[...]``, of whole texts.
      kl: ``[..., N]``, an estimate for each token, such as ``kl_k1``.
      mask: ``[..., N]`` bool.
      kl_coef: scalar, beta.

    Returns:
      ``[..., N]``.

    >>> token_rewards(jnp.array(1.0), jnp.array([0.5, 0.5, 7.0]), jnp.array([True, True, False]), 1.0).tolist()
    [-0.5, 0.5, 0.0]
    """
    penalty = jnp.where(mask, -kl_coef * kl, 0)
    return (penalty + jnp.where(last(mask), score[..., None], 0)).astype(kl.dtype)


def token_gae(reward: Array, value: Array, mask: Array, gamma: Any, gae_lambda: Any) -> Array:
    """Generalised advantages of the tokens of texts: ``A_t = delta_t + gamma lambda A_{t+1}``.

    ``delta_t = r_t + gamma V_{t+1} - V_t``; the value after the last own token is 0, because there the episode ends.
    Schulman et al. 2016, arXiv:1506.02438, eq. 16.

    Args:
      reward: ``[..., N]``, of each token.
      value: ``[..., N]``, of the state before each token.
      mask: ``[..., N]`` bool.
      gamma, gae_lambda: scalars.

    Returns:
      ``[..., N]``, 0 at padding.
    """
    reward, value = (jnp.where(mask, x, 0) for x in (reward, value))
    later = jnp.concatenate([value[..., 1:], jnp.zeros_like(value[..., :1])], axis=-1)
    delta = reward + gamma * later - value

    def step(advantage: Array, delta_t: Array) -> tuple[Array, Array]:
        advantage = delta_t + gamma * gae_lambda * advantage
        return advantage, advantage

    by_token = jnp.moveaxis(delta, -1, 0)
    _, advantage = jax.lax.scan(step, jnp.zeros_like(by_token[0]), by_token, reverse=True)
    return jnp.where(mask, jnp.moveaxis(advantage, 0, -1), 0)


__all__ = ["kl_k1", "kl_k3", "last", "masked_mean", "masked_sum", "token_gae", "token_rewards", "whiten"]


def __dir__() -> list[str]:
    return sorted(__all__)
