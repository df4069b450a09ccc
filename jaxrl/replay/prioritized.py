"""Prioritised experience replay samples transitions in proportion to a power of their TD error."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.arguments import UNIT, check_count, check_float
from jaxrl.ops import across
from jaxrl.replay import n_step as windows
from jaxrl.replay import ring as rings
from jaxrl.replay import sum_tree
from jaxrl.replay.base import Replay, RewardFn, Sample, Slot, num_rows
from jaxrl.replay.ring import Ring
from jaxrl.replay.sum_tree import SumTree
from jaxrl.types import Array, Transition

LARGEST = 1e30
"""The upper bound of ``p^alpha``."""


class PrioritizedState(NamedTuple):
    """A ring and the priorities of its slots.

    Attributes:
      ring: the transitions.
      tree: ``p^alpha`` of each slot, 0 if the slot is empty.
      max_priority: ``[B]``, all equal: the largest ``p^alpha`` so far, which new transitions get. If environments are
        split over devices, each device has its own maximum.
      added: int32, the number of rows added so far, saturating; the annealing of beta reads it.
    """

    ring: Ring
    tree: SumTree
    max_priority: Array
    added: Array


def prioritized(
    capacity: int,
    *,
    n_step: int,
    gamma: Any,
    alpha: Any = 0.6,
    beta: Any = 0.4,
    beta_steps: Any = None,
    epsilon: Any = 1e-6,
) -> Replay:
    """Makes a replay that samples in proportion to priorities and returns importance weights.

    ``P(i) = p_i^alpha / sum_k p_k^alpha`` with ``p_i = |delta_i| + epsilon``, and ``w_i = (N P(i))^-beta / max_j w_j``
    over the batch, where N cancels. Sampling is stratified: one draw from each of ``batch_size`` equal intervals of the
    total. Schaul et al., "Prioritized experience replay", 2016, https://arxiv.org/abs/1511.05952. If environments are
    split over devices, each device samples its share of the batch from its own transitions, with its own P and N; the
    maximum is over all devices.

    Bind the options before you pass it to a recipe: ``functools.partial(prioritized, alpha=0.5)``.

    Args:
      capacity: the number of transitions of all environments together, rounded up to the same number per environment.
      n_step: the number of steps in a window, see ``replay.n_step``.
      gamma: the discount factor of a step, in [0, 1], may be a tracer.
      alpha: the exponent of the priorities: 0 is uniform, 1 proportional; in [0, 1], may be a tracer.
      beta: the exponent of the importance weights: 1 corrects the bias fully; in [0, 1], may be a tracer.
      beta_steps: the number of transitions over which beta grows linearly to 1; None keeps it constant.
      epsilon: added to ``|delta|``, in [0, 1], may be a tracer.

    Returns:
      A ``Replay`` with state ``PrioritizedState`` and index ``Slot``. ``update_priorities`` takes errors of either
      sign; if a slot is in a batch twice, the larger error counts.

    Raises:
      TypeError, ValueError: an argument is invalid; the message names it. ``init`` raises if the capacity is too small.
    """
    check_count("capacity", capacity)
    check_count("n_step", n_step)
    for name, value in {"gamma": gamma, "alpha": alpha, "beta": beta, "epsilon": epsilon}.items():
        check_float(name, value, UNIT)
    if beta_steps is not None and not isinstance(beta_steps, jax.core.Tracer):
        check_count("beta_steps", beta_steps)

    def init(example: Transition, num_envs: int) -> PrioritizedState:
        rows = num_rows(capacity, num_envs, n_step)
        return PrioritizedState(
            ring=rings.init(example, rows, num_envs),
            tree=sum_tree.init(rows, num_envs),
            max_priority=jnp.ones((num_envs,), jnp.float32),
            added=jnp.zeros((), jnp.int32),
        )

    def add(state: PrioritizedState, trajectory: Transition) -> PrioritizedState:
        length = trajectory.reward.shape[0]
        if not length:
            return state._replace(ring=rings.add(state.ring, trajectory))
        written = jnp.arange(min(length, state.ring.rows), dtype=jnp.int32)
        rows = rings.later(state.ring, state.ring.head, written)
        return PrioritizedState(
            ring=rings.add(state.ring, trajectory),
            tree=sum_tree.set_rows(state.tree, rows, jnp.max(state.max_priority)),
            max_priority=state.max_priority,
            added=jnp.minimum(state.added, jnp.iinfo(jnp.int32).max - length) + length,
        )

    def sample(key: Array, state: PrioritizedState, batch_size: int, *, reward_fn: RewardFn | None = None) -> Sample:
        share = jnp.arange(batch_size, dtype=jnp.float32) + jax.random.uniform(key, (batch_size,), jnp.float32)
        slot, values = sum_tree.find(state.tree, share * (sum_tree.total(state.tree) / batch_size))
        transition, discount = windows.at(state.ring, slot, n_step, gamma, reward_fn)
        power = beta if beta_steps is None else annealed(state)
        # Totals differ between devices, so probabilities are compared.
        values = values if across.size() == 1 else values / sum_tree.total(state.tree)
        return Sample(transition, discount, importance_weights(values, power), slot)

    def annealed(state: PrioritizedState) -> Array:
        progress = state.added.astype(jnp.float32) * (state.ring.num_envs * across.size() / beta_steps)
        return beta + (1.0 - beta) * jnp.minimum(progress, 1.0)

    def update_priorities(state: PrioritizedState, index: Slot, priorities: Array) -> PrioritizedState:
        # The sum over all slots must fit into float32.
        values = (jnp.abs(priorities.astype(jnp.float32)) + epsilon) ** alpha
        values = jnp.minimum(values.astype(jnp.float32), LARGEST)
        return state._replace(
            tree=sum_tree.set_slots(state.tree, index, values),
            max_priority=jnp.maximum(state.max_priority, jnp.max(values)),
        )

    return Replay(init, add, sample, update_priorities)


def importance_weights(values: Array, beta: Any) -> Array:
    """``(N P(i))^-beta`` over its maximum, ``(min_j p_j / p_i)^beta``; the factors that do not depend on i cancel.

    Args:
      values: ``[N]``, the sampled ``p^alpha``.
      beta: scalar.

    Returns:
      ``[N]`` in (0, 1], with maximum 1.

    >>> importance_weights(jnp.array([1.0, 4.0]), 0.5).tolist()
    [1.0, 0.5]
    """
    share = jnp.where(values > 0.0, across.least(jnp.min(values)) / jnp.where(values > 0.0, values, 1.0), 1.0)
    return (share**beta).astype(values.dtype)
