"""The descent: from the roots to the leaves where the trees grow."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops import across
from jaxrl.search import indexing
from jaxrl.search.choice import Searching
from jaxrl.search.tree import ROOT
from jaxrl.types import Array

# Levels between two tests whether any tree goes further.
STRIDE = 4

# Levels that a backup processes together.
LEVELS = 8


class Path(NamedTuple):
    """The nodes of one descent in each tree.

    Attributes:
      nodes: ``[LEVELS + D, B]`` int32: ``LEVELS`` rows of N (no node), then one row per depth, N after the leaf. The
        buffer is reused by every simulation; rows from ``LEVELS + levels + 1`` on are left over from earlier ones.
      leaf: ``[B]``, the last node of each path.
      depth: ``[B]``, the depth of the leaf.
      levels: scalar, the number of nodes of the longest path.
    """

    nodes: Array
    leaf: Array
    depth: Array
    levels: Array


def empty_paths(batch: int, capacity: int, max_depth: int) -> Array:
    """An empty buffer for ``Path.nodes``."""
    return jnp.full((LEVELS + max_depth + STRIDE, batch), capacity, jnp.int32).at[LEVELS].set(ROOT)


def descend(state: Searching, nodes: Array, max_depth: int) -> Path:
    """Follows the chosen actions in all trees at once, until an action has no child or the depth is ``max_depth - 1``.

    The loop reads the tree but does not carry it, so that a vmapped loop copies nothing large.
    """
    capacity, batch = state.best.shape[1], nodes.shape[1]

    def going_anywhere(carry: tuple[Array, Array, Array, Array, Array]) -> Array:
        return across.any_vmapped(carry[1] < capacity)

    def step(carry: tuple[Array, Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array, Array]:
        nodes, node, leaf, depth, level = carry
        rows = []
        for stride in range(1, STRIDE + 1):
            further = (node < capacity) & (level + stride < max_depth)
            node = jnp.where(further, indexing.take(state.best[..., 0], node), capacity)
            leaf = jnp.where(node < capacity, node, leaf)
            depth = depth + (node < capacity)
            rows.append(node)
        nodes = jax.lax.dynamic_update_slice_in_dim(nodes, jnp.stack(rows), LEVELS + 1 + level, 0)
        return nodes, node, leaf, depth, level + STRIDE

    roots = jnp.full((batch,), ROOT, jnp.int32)
    start = (nodes, roots, roots, jnp.zeros_like(roots), jnp.zeros((), jnp.int32))
    nodes, _, leaf, depth, _ = jax.lax.while_loop(going_anywhere, step, start)
    return Path(nodes, leaf, depth, across.max_vmapped(depth) + 1)
