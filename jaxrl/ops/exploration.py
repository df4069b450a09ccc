"""Exploration: epsilon-greedy, Boltzmann, noise on continuous actions, and uniformly random actions.

Batch axes are in front, ``[...]``; A is the number of discrete actions, D the axes of a continuous one, which counts
in units of the bounds, ``[-1, 1]``. Keys come first. Epsilon and temperature are scalars or one for each environment,
``[...]``; all numbers may be traced. In a mask ``[..., A]`` True is legal; illegal actions have probability 0. A
row without any legal action counts as one where all are.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.ops import numerics
from jaxrl.ops.td import legal_or_all, masked_argmax, masked_max

Array = jax.Array


def linear_schedule(step: Any, start: Any, end: Any, num_steps: Any) -> Array:
    """From ``start`` at step 0 to ``end`` at ``num_steps``, in a straight line, and ``end`` from there on.

    Args:
      step: scalar or array, counted from 0; may be traced, as everything here.
      start: scalar.
      end: scalar.
      num_steps: scalar; less than 1 counts as 1.

    Returns:
      float32, of the shape of ``step``.

    >>> linear_schedule(jnp.array([0, 50, 100, 900]), 1.0, 0.5, 100).tolist()
    [1.0, 0.75, 0.5, 0.5]
    """
    num_steps = jnp.maximum(jnp.asarray(num_steps, jnp.float32), 1.0)
    passed = jnp.clip(jnp.asarray(step, jnp.float32) / num_steps, 0.0, 1.0)
    start, end = jnp.asarray(start, jnp.float32), jnp.asarray(end, jnp.float32)
    # Mixed in this form both ends are met exactly.
    return (1.0 - passed) * start + passed * end


def epsilon_greedy(key: Array, values: Array, epsilon: Any, mask: Array | None = None) -> Array:
    """With probability epsilon a uniformly random legal action, else the greedy one.

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
    """The probabilities that ``epsilon_greedy`` acts by: ``(1 - eps) 1[a = a*] + eps / (number of legal actions)``.

    Args:
      values: ``[..., A]``.
      epsilon: scalar or ``[...]``.
      mask: ``[..., A]`` bool, or None where every action is legal.

    Returns:
      ``[..., A]`` of sum 1.

    >>> epsilon_greedy_probs(jnp.array([0.0, 7.0, 3.0]), 0.5, jnp.array([True, False, True])).tolist()
    [0.25, 0.0, 0.75]
    """
    epsilon = jnp.broadcast_to(jnp.asarray(epsilon, values.dtype), values.shape[:-1])[..., None]
    greedy = jax.nn.one_hot(masked_argmax(values, mask), values.shape[-1], dtype=values.dtype)
    legal = jnp.ones_like(values) if mask is None else legal_or_all(mask).astype(values.dtype)
    return (1.0 - epsilon) * greedy + epsilon * legal / jnp.sum(legal, axis=-1, keepdims=True)


def boltzmann(key: Array, values: Array, temperature: Any, mask: Array | None = None) -> Array:
    """Samples actions by ``boltzmann_probs``.

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
      ``[..., A]`` of sum 1.
    """
    return jax.nn.softmax(_boltzmann_logits(values, temperature, mask))


def gaussian(
    key: Array, action: Array, stddev: Any, noise_clip: Any = None, *, low: Any = -1.0, high: Any = 1.0
) -> Array:
    """``clip(a + clip(N(0, sigma^2), -c, c), low, high)``, noise of its own on every axis.

    TD3 explores without c and smooths the actions of its targets with it. Fujimoto et al. 2018, arXiv:1802.09477,
    eq. 14 and algorithm 1.

    Args:
      key: a PRNG key, consumed.
      action: ``[..., D]``.
      stddev: anything that broadcasts to ``action``, sigma.
      noise_clip: scalar, c, or None to leave the noise alone.
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
    sigma 0.2. In time steps of dt give ``theta dt`` and ``sigma sqrt(dt)``.

    Args:
      key: a PRNG key, consumed.
      noise: ``[..., D]`` of the step before; zeros where an episode begins.
      theta: scalar, the rate of mean reversion per step.
      sigma: scalar, the standard deviation of the noise added per step.

    Returns:
      ``[..., D]``, the noise to add to the action, and the argument ``noise`` of the next step.
    """
    return (1.0 - theta) * noise + sigma * jax.random.normal(key, noise.shape, noise.dtype)


def uniform_discrete(key: Array, shape: tuple[int, ...], num_actions: int, mask: Array | None = None) -> Array:
    """Legal discrete actions, each with the same probability.

    Args:
      key: a PRNG key, consumed.
      shape: of the batch.
      num_actions: A.
      mask: ``[*shape, A]`` bool, or None where every action is legal.

    Returns:
      ``[*shape]`` int32.
    """
    if mask is None:
        return jax.random.randint(key, shape, 0, num_actions, jnp.int32)
    # The largest of independent uniform numbers is anywhere with the same probability.
    return masked_argmax(jax.random.uniform(key, (*shape, num_actions), jnp.float32), mask)


def uniform_box(key: Array, shape: tuple[int, ...]) -> Array:
    """Continuous actions, uniform in ``[-1, 1]``, in units of the bounds.

    Args:
      key: a PRNG key, consumed.
      shape: of batch and action together, ``[..., D]``.

    Returns:
      ``[*shape]`` float32.
    """
    return jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0)


def _boltzmann_logits(values: Array, temperature: Any, mask: Array | None) -> Array:
    """Illegal actions at ``-inf``; the best at 0, so that no temperature, however low, overflows."""
    advantage = values - masked_max(values, mask)[..., None]
    temperature = numerics.positive(temperature, values.dtype)
    logits = advantage / jnp.broadcast_to(temperature, values.shape[:-1])[..., None]
    return logits if mask is None else jnp.where(legal_or_all(mask), logits, -jnp.inf)
