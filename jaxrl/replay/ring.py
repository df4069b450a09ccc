"""The storage of every replay: a ring buffer with one row for each step of all environments.

A transition has the index (row, env) in leaves ``[rows, B, ...]``, so a trajectory ``[T, B, ...]`` is written without
reshaping and an environment's steps follow each other down a column. ``head`` is the row written next: the row before
it is the newest and, once the ring is full, the row at it is the oldest. Everything else follows from the shapes, so a
ring whose environments are split over devices works as a smaller ring.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.replay.base import Slot
from jaxrl.types import Array, Transition


class Ring(NamedTuple):
    """Transitions in the order of time, in a ring buffer.

    Attributes:
      transitions: leaves ``[rows, B, ...]``.
      head: int32, the row written next.
      filled: int32, the number of rows that hold transitions.
    """

    transitions: Transition
    head: Array
    filled: Array

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.transitions.reward.shape[0]

    @property
    def num_envs(self) -> int:
        """B, the number of environments."""
        return self.transitions.reward.shape[1]


def init(example: Transition, rows: int, num_envs: int) -> Ring:
    """Returns an empty ring.

    Args:
      example: one transition without a batch axis, of arrays or ``jax.ShapeDtypeStruct``.
      rows: the number of steps kept per environment.
      num_envs: B.
    """
    transitions = jax.tree.map(lambda x: jnp.zeros((rows, num_envs, *x.shape), x.dtype), example)
    return Ring(transitions, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def add(ring: Ring, trajectory: Transition) -> Ring:
    """Writes a trajectory ``[T, B, ...]`` over the oldest rows.

    If it is longer than the ring, its last rows are kept.
    An empty one, ``[0, B, ...]``, as updates without steps get, changes nothing.
    Numbers of 64 bits are stored with 32 bits if the ring was made for them.

    Raises:
      TypeError, ValueError: the structure, or the shape or dtype of a leaf, differs from the ring's.
    """
    _check(ring, trajectory)
    length = min(trajectory.reward.shape[0], ring.rows)
    if not length:
        return ring
    newest = jax.tree.map(lambda kept, x: x[-length:].astype(kept.dtype), ring.transitions, trajectory)
    if length == 1:
        write = lambda stored, new: jax.lax.dynamic_update_slice_in_dim(stored, new, ring.head, 0)  # noqa: E731
    else:
        rows = later(ring, ring.head, jnp.arange(length, dtype=jnp.int32))
        write = lambda stored, new: stored.at[rows].set(new, mode="promise_in_bounds", unique_indices=True)  # noqa: E731
    transitions = jax.tree.map(write, ring.transitions, newest)
    return Ring(transitions, later(ring, ring.head, length), jnp.minimum(ring.filled + length, ring.rows))


def later(ring: Ring, row: Array, steps: Any) -> Array:
    """The row ``steps`` after ``row``, wrapping around the end of the ring."""
    return (row + steps) % ring.rows


def steps_left(ring: Ring, row: Array) -> Array:
    """The number of steps from ``row``, included, to the write head, in [1, rows]."""
    return (ring.head - row - 1) % ring.rows + 1


def draw(key: Array, ring: Ring, batch_size: int) -> Slot:
    """Filled slots ``[N]``, uniformly and with replacement; slots of row 0 if the ring is empty."""
    num_slots = (jnp.maximum(ring.filled, 1) * ring.num_envs).astype(jnp.uint32)
    # The modulo bias favours some slots by a factor of at most 1 + slots / 2^32; randint, whose bias is smaller, takes
    # three times as long.
    index = (jax.random.bits(key, (batch_size,), jnp.uint32) % num_slots).astype(jnp.int32)
    return Slot(index // ring.num_envs, index % ring.num_envs)


def take(tree: Any, row: Array, env: Array) -> Any:
    """The entries at (row, env), two index arrays of one shape, of leaves ``[rows, B, ...]``. Their axes come first."""
    get = lambda x: x.at[row, env].get(mode="promise_in_bounds", wrap_negative_indices=False)  # noqa: E731
    return jax.tree.map(get, tree)


def window_slots(ring: Ring, slot: Slot, n: int) -> Slot:
    """The slots ``[n, N]`` of the steps from ``slot`` ``[N]`` on, in order of time. They may pass the write head."""
    steps = jnp.arange(n, dtype=jnp.int32)[:, None]
    return Slot(later(ring, slot.row[None], steps), jnp.broadcast_to(slot.env[None], (n, *slot.env.shape)))


def window_valid(ring: Ring, slot: Slot, ended: Array) -> Array:
    """The valid steps of windows: up to the end of the episode and before the write head.

    Args:
      ring: the storage.
      slot: ``[N]``, the windows' first steps.
      ended: ``[n, N]``, terminated or truncated, for all steps.

    Returns:
      ``[n, N]`` bool, True for the first m steps, m at least 1.
    """
    steps = jnp.arange(ended.shape[0], dtype=jnp.int32)[:, None]
    ends_before = jnp.cumsum(ended, axis=0, dtype=jnp.int32) - ended
    return (ends_before == 0) & (steps < steps_left(ring, slot.row)[None])


def window(ring: Ring, row: Array, env: Array, n: int) -> tuple[Transition, Array]:
    """The n steps from (row, env) on.

    Args:
      ring: the storage.
      row: ``[N]`` int32.
      env: ``[N]`` int32.
      n: Python int, at most ``rows``.

    Returns:
      ``(transitions, valid)``: leaves ``[n, N, ...]`` in the order of time, and ``[n, N]`` bool, True up to the end of
      the episode and before the write head. Invalid steps belong to another episode or are old.
    """
    slots = window_slots(ring, Slot(row, env), n)
    transitions = take(ring.transitions, *slots)
    return transitions, window_valid(ring, Slot(row, env), transitions.terminated | transitions.truncated)


_HALVES = {"float64": jnp.float32, "int64": jnp.int32, "uint64": jnp.uint32}
"""JAX's default dtypes with 64 bits enabled, and their 32-bit counterparts."""


def _check(ring: Ring, trajectory: Transition) -> None:
    stored, structure = jax.tree_util.tree_flatten_with_path(ring.transitions)
    given_structure: Any = jax.tree.structure(trajectory)
    if given_structure != structure:
        raise ValueError(f"trajectory: got {given_structure}, must be {structure}, the structure of the replay")
    length = trajectory.reward.shape[0]
    for (path, kept), given in zip(stored, jax.tree.leaves(trajectory), strict=True):
        name, rest = f"trajectory{jax.tree_util.keystr(path)}", kept.shape[1:]
        if given.shape != (length, *rest):
            wanted = ", ".join(map(str, rest))
            raise ValueError(f"{name}: got shape {given.shape}, must be [T, {wanted}], the shape of the replay")
        if given.dtype != kept.dtype and _HALVES.get(str(given.dtype)) != kept.dtype:
            raise TypeError(f"{name}: got {given.dtype}, must be {kept.dtype}, the dtype of the replay")


__all__ = ["Ring", "add", "draw", "init", "later", "steps_left", "take", "window", "window_slots", "window_valid"]


def __dir__() -> list[str]:
    return sorted(__all__)
