"""A ring that can look up where the episode of a transition begins and ends.

Each transition stores the number of its episode and of its step. A table maps each episode number to the last row of
that episode so far. Episode numbers are taken modulo the number of rows: a ring holds at most as many episodes as
rows, in consecutive order, so two stored episodes never share a number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.replay import ring as rings
from jaxrl.replay.base import Slot
from jaxrl.replay.ring import Ring
from jaxrl.types import Array, Transition


class Place(NamedTuple):
    """The number of a transition's episode, in [0, rows-1], and of its step in the episode, at most ``rows``."""

    episode: Array
    step: Array


class Placed(NamedTuple):
    """The ``extras`` in the ring: the transition's own and its place."""

    extras: Any
    place: Place


class Episodes(NamedTuple):
    """A ring and an index of its episodes.

    Attributes:
      ring: the transitions, whose extras are ``Placed``.
      end: ``[rows, B]`` int32, the row of the last step so far of each episode number.
      coming: ``[1, B]``, the place of the next transition. The newest row implies it, but XLA copies a leaf that is
        read before it is written.
    """

    ring: Ring
    end: Array
    coming: Place


def init(example: Transition, rows: int, num_envs: int) -> Episodes:
    """Returns an empty ring; the arguments are those of ``ring.init``."""
    placed = Placed(example.extras, Place(jnp.int32(0), jnp.int32(0)))
    ring = rings.init(example._replace(extras=placed), rows, num_envs)
    zeros = lambda length: jnp.zeros((length, num_envs), jnp.int32)  # noqa: E731
    return Episodes(ring, zeros(rows), Place(zeros(1), zeros(1)))


def add(state: Episodes, trajectory: Transition) -> Episodes:
    """Writes a trajectory ``[T, B, ...]`` that continues the last one; see ``ring.add``."""
    ring, rows = state.ring, state.ring.rows
    ended = trajectory.terminated | trajectory.truncated
    if not ended.shape[0]:
        return state
    place = places(state.coming, ended, rows)
    now = jax.tree.map(lambda x: x[-1:], place)
    coming = Place((now.episode + ended[-1:]) % rows, jnp.where(ended[-1:], 0, jnp.minimum(now.step + 1, rows)))
    written = rings.add(ring, trajectory._replace(extras=Placed(trajectory.extras, place)))
    length = min(ended.shape[0], rows)
    steps = jnp.arange(length, dtype=jnp.int32)[:, None]
    # Only the last step of each episode writes, so that no two steps write to one index. The others get indices out of
    # bounds, which differ too.
    closes = ended[-length:] | (steps == length - 1)
    number = jnp.where(closes, place.episode[-length:], rows + steps)
    row = jnp.broadcast_to(rings.later(ring, ring.head, steps), number.shape)
    env = jnp.broadcast_to(jnp.arange(ring.num_envs, dtype=jnp.int32)[None], number.shape)
    return Episodes(written, state.end.at[number, env].set(row, mode="drop", unique_indices=True), coming)


def places(first: Place, ended: Array, rows: int) -> Place:
    """The places ``[T, B]`` of consecutive steps.

    Args:
      first: ``[1, B]``, the place of the first step.
      ended: ``[T, B]``, which steps end an episode.
      rows: the modulus of episode numbers and the maximum of step numbers.
    """
    steps = jnp.arange(ended.shape[0], dtype=jnp.int32)[:, None]
    ends_before = jnp.cumsum(ended, axis=0, dtype=jnp.int32) - ended
    # The index of the step at which each episode began; the first episode may have begun earlier.
    began = jnp.concatenate([-first.step, jnp.where(ended[:-1], steps[1:], -rows)])
    step = jnp.minimum(steps - jax.lax.cummax(began, axis=0), rows)
    return Place((first.episode + ends_before) % rows, step)


def around(state: Episodes, slot: Slot) -> tuple[Array, Array]:
    """The numbers of stored steps of the same episode before and after each transition.

    Args:
      state: the ring.
      slot: ``[N]``, the transitions.

    Returns:
      ``(before, after)``: ``[N]`` int32, without the transition itself. Steps that were overwritten are not counted,
      nor are the steps to come of an unfinished episode.
    """
    ring = state.ring
    place = rings.take(ring.transitions.extras.place, *slot)
    # An empty ring holds no step, and the result must not be negative.
    before = jnp.minimum(place.step, jnp.maximum(ring.filled - rings.steps_left(ring, slot.row), 0))
    end = rings.take(state.end, place.episode, slot.env)
    return before, (end - slot.row) % ring.rows


__all__ = ["Episodes", "Place", "Placed", "add", "around", "init", "places"]


def __dir__() -> list[str]:
    return sorted(__all__)
