"""Windows of n steps, which are reduced to one transition when they are sampled.

A window contains at most n steps from its first step on and ends at the end of the episode or of the ring:

  reward = r_0 + g d_0 r_1 + ... + (g^(m-1) d_0 ... d_(m-2)) r_(m-1),    discount = g^m d_0 ... d_(m-1)

with gamma g and the transitions' own discounts d: 1 inside an episode, 0 where it terminated, -1 where the player to
move changes. It is ``ops.returns.n_step_returns`` without the value, which only the learner can compute.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops import returns
from jaxrl.replay import ring as rings
from jaxrl.replay.base import RewardFn, Slot
from jaxrl.replay.ring import Ring
from jaxrl.types import Array, Transition


class Reduced(NamedTuple):
    """A window as one step.

    Attributes:
      reward: ``[N]``, the discounted sum of rewards.
      transition_discount: ``[N]``, the product of the transitions' discounts, without gamma.
      discount: ``[N]``, the weight of the value after the window, with gamma.
      last: ``[N]`` int32, the index of the window's last step, in [0, n-1].
    """

    reward: Array
    transition_discount: Array
    discount: Array
    last: Array


def reduce(reward: Array, discount: Array, valid: Array, gamma: Any) -> Reduced:
    """Reduces windows to their discounted sum of rewards and the weight of the value after them.

    Args:
      reward: ``[n, N]``, the rewards.
      discount: ``[n, N]``, the discounts of the transitions, without gamma.
      valid: ``[n, N]`` bool, True for the first m steps, m at least 1: see ``ring.window_valid``.
      gamma: scalar, may be a tracer.
    """
    n = reward.shape[0]
    step_discount = returns.bootstrap_discount(discount, gamma)
    total, weight, product = reward[0], step_discount[0], discount[0]
    for i in range(1, n):  # n is small, and the unrolled loop is one fused kernel
        total = total + jnp.where(valid[i], weight * reward[i], 0.0)
        weight = jnp.where(valid[i], weight * step_discount[i], weight)
        product = jnp.where(valid[i], product * discount[i], product)
    return Reduced(total, product, weight, jnp.sum(valid, axis=0, dtype=jnp.int32) - 1)


def new_rewards(reward_fn: RewardFn, window: Transition) -> Array:
    """The rewards ``[n, N]`` that a function computes for the steps of windows, cast to the dtype of the stored ones.

    Raises:
      ValueError: the function returns another shape.
    """
    reward = reward_fn(window)
    if jnp.shape(reward) != window.reward.shape:
        raise ValueError(f"reward_fn: got shape {jnp.shape(reward)}, must return [n, N], here {window.reward.shape}")
    return reward.astype(window.reward.dtype)


def at(ring: Ring, slot: Slot, n: int, gamma: Any, reward_fn: RewardFn | None = None) -> tuple[Transition, Array]:
    """The windows of n steps that begin at ``slot`` ``[N]``, each reduced to one transition.

    Observations are read only where a window begins and next observations only where it ends, unless ``reward_fn``
    needs all of them.

    Args:
      ring: the storage.
      slot: ``[N]``, the first steps.
      n: Python int, at most ``rows``.
      gamma: scalar, may be a tracer.
      reward_fn: computes new rewards, see ``base.SampleFn``.

    Returns:
      The fields ``(transition, discount)`` of ``Sample``.
    """
    if n == 1:
        transition = rings.take(ring.transitions, *slot)
        if reward_fn is not None:
            window = jax.tree.map(lambda x: x[None], transition)
            transition = transition._replace(reward=new_rewards(reward_fn, window)[0])
        return transition, returns.bootstrap_discount(transition.discount, gamma)
    stored = ring.transitions
    slots = rings.window_slots(ring, slot, n)
    signals = stored.reward, stored.discount, stored.terminated, stored.truncated
    reward, discount, terminated, truncated = rings.take(signals, *slots)
    if reward_fn is not None:
        reward = new_rewards(reward_fn, rings.take(stored, *slots))
    reduced = reduce(reward, discount, rings.window_valid(ring, slot, terminated | truncated), gamma)
    last = rings.later(ring, slot.row, reduced.last)
    observation, action, extras = rings.take((stored.observation, stored.action, stored.extras), *slot)
    final = stored.terminated, stored.truncated, stored.next_observation
    terminated, truncated, next_observation = rings.take(final, last, slot.env)
    transition = Transition(
        observation=observation,
        action=action,
        reward=reduced.reward,
        discount=reduced.transition_discount,
        terminated=terminated,
        truncated=truncated,
        next_observation=next_observation,
        extras=extras,
    )
    return transition, reduced.discount


__all__ = ["Reduced", "at", "new_rewards", "reduce"]


def __dir__() -> list[str]:
    return sorted(__all__)
