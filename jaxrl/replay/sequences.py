"""Sequences of consecutive steps from a ring, for recurrent agents and world models."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.arguments import check_count
from jaxrl.replay import ring as rings
from jaxrl.replay.base import Slot
from jaxrl.replay.ring import Ring
from jaxrl.types import Array, Transition


def sample(
    key: Array, ring: Ring, batch_size: int, length: int, *, across_episodes: bool = True
) -> tuple[Transition, Array]:
    """Samples sequences of consecutive steps with replacement, uniformly over their possible first steps.

    A sequence never passes the write head, so no step is followed by an older one.

    Args:
      key: consumed.
      ring: the storage: the state of a uniform replay, or the field ``ring`` of a prioritised one.
      batch_size: N.
      length: L, Python int, at most the number of rows of the ring.
      across_episodes: if True, sequences continue after the end of an episode, which ``terminated | truncated`` marks;
        if False, the steps after it are invalid.

    Returns:
      ``(transitions, valid)``: leaves ``[L, N, ...]`` in the order of time, and ``[L, N]`` bool, True from the first
      step on. If the ring holds fewer than L steps, the missing ones are invalid; in an empty ring all are.

    Raises:
      TypeError, ValueError: the ring has fewer rows than ``length``, or a count is less than 1.
    """
    check_count("batch_size", batch_size)
    check_count("length", length)
    if length > ring.rows:
        raise ValueError(f"length: got {length}, must be at most {ring.rows}, the steps that the replay keeps")
    beginnings = jnp.maximum(ring.filled - length + 1, 1)
    row_key, env_key = jax.random.split(key)
    age = jax.random.randint(row_key, (batch_size,), 0, beginnings, jnp.int32)
    env = jax.random.randint(env_key, (batch_size,), 0, ring.num_envs, jnp.int32)
    oldest = ring.head - ring.filled  # may be negative: later() wraps it around
    slot = Slot(rings.later(ring, oldest, age), env)
    transitions = rings.take(ring.transitions, *rings.window_slots(ring, slot, length))
    ended = transitions.terminated | transitions.truncated
    ended = jnp.zeros_like(ended) if across_episodes else ended
    return transitions, rings.window_valid(ring, slot, ended) & (ring.filled > 0)


__all__ = ["sample"]


def __dir__() -> list[str]:
    return sorted(__all__)
