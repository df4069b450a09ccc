"""The descent: from the roots to where the trees will grow."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.search import indexing
from jaxrl.search.choice import Searching
from jaxrl.search.tree import ROOT
from jaxrl.types import Array

# Levels between two questions whether any tree goes further.
STRIDE = 4

# Levels that a backup takes together.
LEVELS = 8


class Path(NamedTuple):
    """The nodes of one descent in each tree.

    Attributes:
      nodes: ``[LEVELS + D, B]`` int32: ``LEVELS`` rows of N, which is no node, then one for each depth, N behind the
        leaf. It is handed on from simulation to simulation; rows from ``LEVELS + levels + 1`` on are of earlier ones.
      leaf: ``[B]`` the last node of each.
      depth: ``[B]`` of the leaf.
      levels: scalar, how many nodes the longest has.
    """

    nodes: Array
    leaf: Array
    depth: Array
    levels: Array


def empty_paths(batch: int, capacity: int, max_depth: int) -> Array:
    """Room for ``Path.nodes``."""
    return jnp.full((LEVELS + max_depth + STRIDE, batch), capacity, jnp.int32).at[LEVELS].set(ROOT)


def descend(state: Searching, nodes: Array, max_depth: int) -> Path:
    """Follows every node's choice, in all trees at once, to the first that leads nowhere yet or to ``max_depth - 1``.

    The tree is read and not carried, so that a vmapped loop has nothing large to select.
    """
    capacity, batch = state.best.shape[1], nodes.shape[1]

    def going_anywhere(carry: tuple[Array, Array, Array, Array, Array]) -> Array:
        return indexing.anywhere(carry[1] < capacity)

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
    return Path(nodes, leaf, depth, indexing.highest(depth) + 1)
