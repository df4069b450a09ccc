"""Uniform experience replay samples all stored transitions with equal probability."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxrl.arguments import UNIT, check_count, check_float
from jaxrl.replay import n_step as windows
from jaxrl.replay import ring as rings
from jaxrl.replay.base import Replay, RewardFn, Sample, Slot, num_rows
from jaxrl.replay.ring import Ring
from jaxrl.types import Array, Transition


def uniform(capacity: int, *, n_step: int, gamma: Any) -> Replay:
    """Makes a replay that samples uniformly, with replacement.

    ``P(i) = 1 / N``. Lin, "Self-improving reactive agents based on reinforcement learning, planning and teaching",
    1992; Mnih et al., "Human-level control through deep reinforcement learning", 2015.

    Args:
      capacity: the number of transitions of all environments together, rounded up to the same number per environment.
      n_step: the number of steps in a window, see ``replay.n_step``.
      gamma: the discount factor of a step, in [0, 1], may be a tracer.

    Returns:
      A ``Replay`` with state ``Ring`` and index ``Slot``.

    Raises:
      TypeError, ValueError: an argument is invalid; the message names it. ``init`` raises if the capacity is too small.
    """
    check_count("capacity", capacity)
    check_count("n_step", n_step)
    check_float("gamma", gamma, UNIT)

    def init(example: Transition, num_envs: int) -> Ring:
        return rings.init(example, num_rows(capacity, num_envs, n_step), num_envs)

    def add(state: Ring, trajectory: Transition) -> Ring:
        return rings.add(state, trajectory)

    def sample(key: Array, state: Ring, batch_size: int, *, reward_fn: RewardFn | None = None) -> Sample:
        slot = rings.draw(key, state, batch_size)
        transition, discount = windows.at(state, slot, n_step, gamma, reward_fn)
        return Sample(transition, discount, jnp.ones((batch_size,), jnp.float32), slot)

    def update_priorities(state: Ring, index: Slot, priorities: Array) -> Ring:
        del index, priorities
        return state

    return Replay(init, add, sample, update_priorities)
