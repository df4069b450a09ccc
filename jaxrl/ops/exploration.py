"""Exploration: epsilon-greedy, Boltzmann, noise on continuous actions, and uniformly random actions.

Legend of shapes: batch axes ``[...]`` in front, A discrete actions, D axes of a continuous action, whose unit is the
bounds, ``[-1, 1]``. Keys come first. Epsilon and temperature are scalars or one per environment, ``[...]``; all numbers
may be traced. In a mask ``[..., A]`` True is legal; illegal actions have probability 0. In a row without any legal
action all actions are treated as legal.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.ops import numerics
from jaxrl.ops.td import legal_or_all, masked_argmax, masked_max

Array = jax.Array


def linear_schedule(step: Any, start: Any, end: Any, num_steps: Any) -> Array:
    """Interpolates linearly from ``start`` at step 0 to ``end`` at ``num_steps`` and stays at ``end``.

    Args:
      step: scalar or array, counted from 0; may be traced.
      start: scalar.
      end: scalar.
      num_steps: scalar; less than 1 is treated as 1.

    Returns:
      float32, with the shape of ``step``.

    >>> linear_schedule(jnp.array([0, 50, 100, 900]), 1.0, 0.5, 100).tolist()
    [1.0, 0.75, 0.5, 0.5]
    """
    num_steps = jnp.maximum(jnp.asarray(num_steps, jnp.float32), 1.0)
    passed = jnp.clip(jnp.asarray(step, jnp.float32) / num_steps, 0.0, 1.0)
    start, end = jnp.asarray(start, jnp.float32), jnp.asarray(end, jnp.float32)
    # This form of the interpolation is exact at both ends.
    return (1.0 - passed) * start + passed * end


def epsilon_greedy(key: Array, values: Array, epsilon: Any, mask: Array | None = None) -> Array:
    """Takes a uniformly random legal action with probability epsilon, else the greedy one.

    Watkins 1989; Sutton and Barto 2018, section 2.2. Ties go to the first action.

    Args:
      key: a PRNG key, consumed.
      values: ``[..., A]``.
      epsilon: scalar or ``[...]``.
      mask: ``[..., A]`` bool, or None where every action is legal.

    Returns:
      ``[...]`` int32.
    """
    explore_key, action_key = jax.random.split(key)
    shape = values.shape[:-1]
    explore = jax.random.uniform(explore_key, shape, jnp.float32) < epsilon
    return jnp.where(explore, uniform_discrete(action_key, shape, values.shape[-1], mask), masked_argmax(values, mask))


def epsilon_greedy_probs(values: Array, epsilon: Any, mask: Array | None = None) -> Array:
    """The action probabilities of ``epsilon_greedy``: ``(1 - eps) 1[a = a*] + eps / (number of legal actions)``.

    Args:
      values: ``[..., A]``.
      epsilon: scalar or ``[...]``.
      mask: ``[..., A]`` bool, or None where every action is legal.

    Returns:
      ``[..., A]`` with sum 1.

    >>> epsilon_greedy_probs(jnp.array([0.0, 7.0, 3.0]), 0.5, jnp.array([True, False, True])).tolist()
    [0.25, 0.0, 0.75]
    """
    epsilon = jnp.broadcast_to(jnp.asarray(epsilon, values.dtype), values.shape[:-1])[..., None]
    greedy = jax.nn.one_hot(masked_argmax(values, mask), values.shape[-1], dtype=values.dtype)
    legal = jnp.ones_like(values) if mask is None else legal_or_all(mask).astype(values.dtype)
    return (1.0 - epsilon) * greedy + epsilon * legal / jnp.sum(legal, axis=-1, keepdims=True)


def boltzmann(key: Array, values: Array, temperature: Any, mask: Array | None = None) -> Array:
    """Samples actions from ``boltzmann_probs``.

    Args:
      key: a PRNG key, consumed.
      values: ``[..., A]``.
      temperature: scalar or ``[...]``, above 0, in units of the values.
      mask: ``[..., A]`` bool, or None where every action is legal.

    Returns:
      ``[...]`` int32.
    """
    return jax.random.categorical(key, _boltzmann_logits(values, temperature, mask)).astype(jnp.int32)


def boltzmann_probs(values: Array, temperature: Any, mask: Array | None = None) -> Array:
    """``pi(a) = exp(q(a) / temperature) / Z`` over the legal actions. Sutton and Barto 2018, section 2.8.

    Args:
      values: ``[..., A]``.
      temperature: scalar or ``[...]``, above 0, in units of the values.
      mask: ``[..., A]`` bool, or None where every action is legal.

    Returns:
      ``[..., A]`` with sum 1.
    """
    return jax.nn.softmax(_boltzmann_logits(values, temperature, mask))


def gaussian(
    key: Array, action: Array, stddev: Any, noise_clip: Any = None, *, low: Any = -1.0, high: Any = 1.0
) -> Array:
    """``clip(a + clip(N(0, sigma^2), -c, c), low, high)``, with independent noise on every axis.

    TD3 explores without c and smooths its target actions with it. Fujimoto et al. 2018, arXiv:1802.09477, eq. 14 and
    algorithm 1.

    Args:
      key: a PRNG key, consumed.
      action: ``[..., D]``.
      stddev: sigma, of any shape that broadcasts to ``action``.
      noise_clip: scalar, c, or None for no clipping of the noise.
      low: scalar or like ``action``.
      high: scalar or like ``action``.

    Returns:
      ``[..., D]``.
    """
    noise = stddev * jax.random.normal(key, action.shape, action.dtype)
    if noise_clip is not None:
        noise = jnp.clip(noise, -noise_clip, noise_clip)
    return jnp.clip(action + noise, low, high)


def ornstein_uhlenbeck(key: Array, noise: Array, theta: Any, sigma: Any) -> Array:
    """One step of Ornstein-Uhlenbeck noise: ``x' = (1 - theta) x + sigma N(0, 1)``.

    Its stationary standard deviation is ``sigma / sqrt(1 - (1 - theta)^2)``, its autocorrelation over n steps
    ``(1 - theta)^n``. Uhlenbeck and Ornstein 1930; Lillicrap et al. 2016, arXiv:1509.02971, section 3, theta 0.15 and
    sigma 0.2. For time steps of dt pass ``theta dt`` and ``sigma sqrt(dt)``.

    Args:
      key: a PRNG key, consumed.
      noise: ``[..., D]``, the noise of the previous step; zeros at the start of an episode.
      theta: scalar, the rate of mean reversion per step.
      sigma: scalar, the standard deviation of the noise added per step.

    Returns:
      ``[..., D]``, the noise to add to the action, and the argument ``noise`` of the next step.
    """
    return (1.0 - theta) * noise + sigma * jax.random.normal(key, noise.shape, noise.dtype)


def uniform_discrete(key: Array, shape: tuple[int, ...], num_actions: int, mask: Array | None = None) -> Array:
    """Uniformly random legal discrete actions.

    Args:
      key: a PRNG key, consumed.
      shape: the shape of the batch.
      num_actions: A.
      mask: ``[*shape, A]`` bool, or None where every action is legal.

    Returns:
      ``[*shape]`` int32.
    """
    if mask is None:
        return jax.random.randint(key, shape, 0, num_actions, jnp.int32)
    # The argmax of independent uniform numbers is uniformly distributed.
    return masked_argmax(jax.random.uniform(key, (*shape, num_actions), jnp.float32), mask)


def uniform_box(key: Array, shape: tuple[int, ...]) -> Array:
    """Continuous actions, uniform in ``[-1, 1]``, in units of the bounds.

    Args:
      key: a PRNG key, consumed.
      shape: the shape of batch and action together, ``[..., D]``.

    Returns:
      ``[*shape]`` float32.
    """
    return jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0)


def _boltzmann_logits(values: Array, temperature: Any, mask: Array | None) -> Array:
    """Logits with ``-inf`` for illegal actions and maximum 0, so that a low temperature does not overflow."""
    # Scaled by a power of two: differences of the largest numbers would overflow, and reciprocals of them vanish.
    wide = numerics.wide(values)
    advantage = values.astype(wide) / 16.0 - masked_max(values, mask).astype(wide)[..., None] / 16.0
    temperature = numerics.positive(jnp.asarray(temperature, wide) / 16.0, wide)
    logits = (advantage / jnp.broadcast_to(temperature, values.shape[:-1])[..., None]).astype(values.dtype)
    return logits if mask is None else jnp.where(legal_or_all(mask), logits, -jnp.inf)


__all__ = [
    "boltzmann",
    "boltzmann_probs",
    "epsilon_greedy",
    "epsilon_greedy_probs",
    "gaussian",
    "linear_schedule",
    "ornstein_uhlenbeck",
    "uniform_box",
    "uniform_discrete",
]


def __dir__() -> list[str]:
    return sorted(__all__)
