"""A ring that looks up where the episode of a transition begins and ends.

Each transition carries the number of its episode and of its step, and a table says for each number the last row of
that episode so far. Numbers are counted modulo the rows: of as many rows there are at most as many episodes, one after
the other, so no two that are still kept share a number.
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
    """Where a transition stands: the number of its episode in [0, rows-1], and the step in it, counted to ``rows``."""

    episode: Array
    step: Array


class Placed(NamedTuple):
    """The ``extras`` of the ring: those of the transition, and its place."""

    extras: Any
    place: Place


class Episodes(NamedTuple):
    """A ring and its episodes.

    Attributes:
      ring: of transitions whose extras are ``Placed``.
      end: ``[rows, B]`` int32, the row of the last step so far of each episode number.
      coming: ``[1, B]`` the place of what is added next. It could be read off the newest row, but XLA copies a leaf
        that is read and then written.
    """

    ring: Ring
    end: Array
    coming: Place


def init(example: Transition, rows: int, num_envs: int) -> Episodes:
    """An empty ring; the arguments are those of ``ring.init``."""
    placed = Placed(example.extras, Place(jnp.int32(0), jnp.int32(0)))
    ring = rings.init(example._replace(extras=placed), rows, num_envs)
    zeros = lambda length: jnp.zeros((length, num_envs), jnp.int32)  # noqa: E731
    return Episodes(ring, zeros(rows), Place(zeros(1), zeros(1)))


def add(state: Episodes, trajectory: Transition) -> Episodes:
    """Writes a trajectory ``[T, B, ...]``, which goes on where the last one stopped; see ``ring.add``."""
    ring, rows = state.ring, state.ring.rows
    ended = trajectory.terminated | trajectory.truncated
    place = places(state.coming, ended, rows)
    now = jax.tree.map(lambda x: x[-1:], place)
    coming = Place((now.episode + ended[-1:]) % rows, jnp.where(ended[-1:], 0, jnp.minimum(now.step + 1, rows)))
    written = rings.add(ring, trajectory._replace(extras=Placed(trajectory.extras, place)))
    length = min(ended.shape[0], rows)
    steps = jnp.arange(length, dtype=jnp.int32)[:, None]
    # Only the last step of each episode writes, so that no two write to one place; the others fall out of bounds,
    # each at a place of its own.
    closes = ended[-length:] | (steps == length - 1)
    number = jnp.where(closes, place.episode[-length:], rows + steps)
    row = jnp.broadcast_to(rings.later(ring, ring.head, steps), number.shape)
    env = jnp.broadcast_to(jnp.arange(ring.num_envs, dtype=jnp.int32)[None], number.shape)
    return Episodes(written, state.end.at[number, env].set(row, mode="drop", unique_indices=True), coming)


def places(first: Place, ended: Array, rows: int) -> Place:
    """The places ``[T, B]`` of consecutive steps.

    Args:
      first: ``[1, B]`` of the first of them.
      ended: ``[T, B]`` which of them are the last of their episodes.
      rows: what numbers are counted modulo, and steps counted to.
    """
    steps = jnp.arange(ended.shape[0], dtype=jnp.int32)[:, None]
    ends_before = jnp.cumsum(ended, axis=0, dtype=jnp.int32) - ended
    # The step of these at which the episode of each began; that of the first may have begun before.
    began = jnp.concatenate([-first.step, jnp.where(ended[:-1], steps[1:], -rows)])
    step = jnp.minimum(steps - jax.lax.cummax(began, axis=0), rows)
    return Place((first.episode + ends_before) % rows, step)


def around(state: Episodes, slot: Slot) -> tuple[Array, Array]:
    """The number of steps of its episode that are kept before and after each transition.

    Args:
      state: the ring.
      slot: ``[N]``.

    Returns:
      ``(before, after)``: ``[N]`` int32, without the transition itself. Of an episode whose beginning is overwritten
      only what is left counts, of one that goes on what there is so far.
    """
    ring = state.ring
    place = rings.take(ring.transitions.extras.place, *slot)
    # Of an empty ring nothing is kept, which must not come out negative.
    before = jnp.minimum(place.step, jnp.maximum(ring.filled - rings.steps_left(ring, slot.row), 0))
    end = rings.take(state.end, place.episode, slot.env)
    return before, (end - slot.row) % ring.rows
