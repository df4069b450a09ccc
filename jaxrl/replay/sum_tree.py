"""Sum trees over the slots of a ring: one tree per environment, with eight children per node.

A slot's value is the leaf of its row in the tree of its environment, and every node is the sum of its children.
Finding a slot by its share of the total, and setting values, touch ``log_8(rows)`` nodes each.

  levels[0]    [ceil(rows / 8), B, 8]   the values: row r of environment b at [r // 8, b, r % 8]
  levels[i]    [..., B, 8]              the sums of the blocks of eight of levels[i-1], in the same layout
  levels[-1]   [1, B, 8]                one block

A node has eight children rather than two because a level costs one gather or scatter, whose cost is mostly its call
overhead: a third as many levels took a third of the time. There is one tree per environment, rather than one in all,
because added rows are then written and summed for all environments at once, and because the trees can be split over
devices with the environments.

Sums are always recomputed from the children, so rounding errors do not accumulate.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.replay.base import Slot
from jaxrl.types import Array

FAN_OUT = 8

_IN_BOUNDS: dict[str, Any] = {"mode": "promise_in_bounds", "wrap_negative_indices": False}


class SumTree(NamedTuple):
    """The levels of the trees, see the module.

    Attributes:
      levels: float32, from the leaves to the root.
    """

    levels: tuple[Array, ...]


def init(rows: int, num_envs: int) -> SumTree:
    """Returns trees of zeros for ``rows`` x ``num_envs`` slots."""
    levels: list[Array] = []
    nodes = rows
    while not levels or nodes > 1:
        nodes = -(-nodes // FAN_OUT)
        levels.append(jnp.zeros((nodes, num_envs, FAN_OUT), jnp.float32))
    return SumTree(tuple(levels))


def total(tree: SumTree) -> Array:
    """The sum of all values, a scalar."""
    return jnp.sum(tree.levels[-1])


def find(tree: SumTree, mass: Array) -> tuple[Slot, Array]:
    """The slots at which the cumulative sum of all values passes ``mass``.

    With mass uniform in [0, total), a slot is found with probability ``value / total``. Slots of value zero are never
    found, despite rounding, unless all values are zero.

    Args:
      tree: the values.
      mass: ``[N]`` in [0, total].

    Returns:
      ``(slot, value)`` ``[N]``.
    """
    roots = jnp.sum(tree.levels[-1][0], axis=-1)
    trees = jnp.broadcast_to(roots[:, None], (*roots.shape, *mass.shape))
    env, value, mass = _child(trees, jnp.cumsum(roots)[:, None], mass)
    row = jnp.zeros_like(env)
    for level in reversed(tree.levels):
        children = _children(level, row, env)
        child, value, mass = _child(children, _running_sum(children), mass)
        row = FAN_OUT * row + child
    # The value is kept from the last level. If it were read again at the slot, nothing would order that read before an
    # update at the slot, and XLA would copy the leaves.
    return Slot(row, env), value


def set_slots(tree: SumTree, slot: Slot, values: Array) -> SumTree:
    """Sets the values ``[N]`` at slots ``[N]``; of equal slots the largest value is kept, on any device."""
    leaves = tree.levels[0].at[slot.row // FAN_OUT, slot.env, slot.row % FAN_OUT].set(0.0, **_IN_BOUNDS)
    leaves = leaves.at[slot.row // FAN_OUT, slot.env, slot.row % FAN_OUT].max(values, **_IN_BOUNDS)
    levels, node = [leaves], slot.row // FAN_OUT
    for level in tree.levels[1:]:
        sums = jnp.sum(levels[-1].at[node, slot.env].get(**_IN_BOUNDS), axis=-1)
        # All slots of one node write the same sum.
        levels.append(level.at[node // FAN_OUT, slot.env, node % FAN_OUT].set(sums, **_IN_BOUNDS))
        node = node // FAN_OUT
    return SumTree(tuple(levels))


def set_rows(tree: SumTree, rows: Array, value: Array) -> SumTree:
    """Sets whole rows to one value.

    Args:
      tree: the values.
      rows: ``[T]`` int32, consecutive modulo the length of the ring.
      value: scalar.
    """
    num_envs, count = tree.levels[0].shape[1], len(rows)
    values = jnp.full((count, num_envs), value, jnp.float32)
    levels, first = [tree.levels[0].at[rows // FAN_OUT, :, rows % FAN_OUT].set(values, **_IN_BOUNDS)], rows[0]
    for level in tree.levels[1:]:
        # The blocks that contain the touched nodes: consecutive, wrapping around the end, which may lie inside a block.
        below = levels[-1].shape[0]
        count = 1 if count == 1 else min(below, (count - 1) // FAN_OUT + 3)
        blocks = (first // FAN_OUT + jnp.arange(count, dtype=jnp.int32)) % below
        sums = jnp.sum(levels[-1].at[blocks].get(**_IN_BOUNDS), axis=-1)
        levels.append(level.at[blocks // FAN_OUT, :, blocks % FAN_OUT].set(sums, **_IN_BOUNDS))
        first = blocks[0]
    return SumTree(tuple(levels))


def _children(level: Array, node: Array, env: Array) -> Array:
    """The children ``[8, N]`` of nodes ``[N]``, with N last so that later operations are vectorised over it."""
    layout = jax.lax.GatherDimensionNumbers(offset_dims=(0,), collapsed_slice_dims=(0, 1), start_index_map=(0, 1))
    index = jnp.stack([node, env], axis=-1)
    return jax.lax.gather(level, index, layout, (1, 1, FAN_OUT), mode="promise_in_bounds")


def _running_sum(x: Array) -> Array:
    """``cumsum`` over the short first axis, in few kernels."""
    shift = 1
    while shift < len(x):
        x = x + jnp.pad(x[:-shift], ((shift, 0), (0, 0)))
        shift *= 2
    return x


def _child(children: Array, running_sum: Array, mass: Array) -> tuple[Array, Array, Array]:
    """The child ``[N]`` among ``[K, N]`` that contains the mass, its value, and the remaining mass."""
    # Rounding can leave a mass above the children's sum: the child that completes the sum is never passed.
    passed = (running_sum <= mass[None]) & (running_sum < running_sum[-1:])
    child = jnp.sum(passed, axis=0, dtype=jnp.int32)
    chosen = jnp.arange(len(children), dtype=jnp.int32)[:, None] == child[None]
    value = jnp.sum(jnp.where(chosen, children, 0.0), axis=0)
    return child, value, mass - jnp.sum(jnp.where(passed, children, 0.0), axis=0)


__all__ = ["FAN_OUT", "SumTree", "find", "init", "set_rows", "set_slots", "total"]


def __dir__() -> list[str]:
    return sorted(__all__)
