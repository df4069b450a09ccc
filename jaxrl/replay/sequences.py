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
    """Draws sequences of consecutive steps, uniformly over where they can begin, with replacement.

    A sequence never runs over the write head: none of its steps is followed by an older one.

    Args:
      key: consumed.
      ring: the storage, the state of a uniform replay or the field ``ring`` of a prioritised one.
      batch_size: N.
      length: L, Python int, at most the rows of the ring.
      across_episodes: True: sequences go on behind the end of an episode, ``terminated | truncated`` says where;
        False: what comes behind it is not valid.

    Returns:
      ``(transitions, valid)``: leaves ``[L, N, ...]`` in the order of time, and ``[L, N]`` bool, True from the first
      step on. Steps that do not exist yet, where the ring holds fewer than L, are not valid either; in an empty ring
      none is.

    Raises:
      TypeError, ValueError: the ring has fewer rows than ``length``, or a count is below 1.
    """
    check_count("batch_size", batch_size)
    check_count("length", length)
    if length > ring.rows:
        raise ValueError(f"length: got {length}, but the replay keeps only {ring.rows} steps of each environment")
    beginnings = jnp.maximum(ring.filled - length + 1, 1)
    row_key, env_key = jax.random.split(key)
    age = jax.random.randint(row_key, (batch_size,), 0, beginnings, jnp.int32)
    env = jax.random.randint(env_key, (batch_size,), 0, ring.num_envs, jnp.int32)
    oldest = ring.head - ring.filled  # may be negative: later() takes it round the end
    slot = Slot(rings.later(ring, oldest, age), env)
    transitions = rings.take(ring.transitions, *rings.window_slots(ring, slot, length))
    ended = transitions.terminated | transitions.truncated
    ended = jnp.zeros_like(ended) if across_episodes else ended
    return transitions, rings.window_valid(ring, slot, ended) & (ring.filled > 0)
