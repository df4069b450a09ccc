"""The descent: from the roots to where the trees will grow."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.search import indexing
from jaxrl.search.choice import Searching
from jaxrl.search.tree import ROOT, UNVISITED
from jaxrl.types import Array


class Path(NamedTuple):
    """The nodes of one descent in each tree.

    Attributes:
      nodes: ``[chunk + D, B]`` int32: ``chunk`` rows of N, which is no node, then one for each depth, N behind the
        leaf.
      leaf: ``[B]`` the last node of each.
      depth: ``[B]`` of the leaf.
      levels: scalar, how many nodes the longest has.
    """

    nodes: Array
    leaf: Array
    depth: Array
    levels: Array


def descend(state: Searching, max_depth: int, chunk: int) -> Path:
    """Follows every node's choice, in all trees at once, to the first that leads nowhere yet or to ``max_depth - 1``.

    The tree is read and not carried, so that a vmapped loop has nothing large to select.
    """
    batch, capacity = state.best_child.shape
    roots = jnp.full((batch,), ROOT, jnp.int32)
    nodes = jnp.full((chunk + max_depth + 1, batch), capacity, jnp.int32).at[chunk].set(roots)

    def going_anywhere(carry: tuple[Array, Array, Array, Array, Array]) -> Array:
        return indexing.anywhere(carry[3])

    def step(carry: tuple[Array, Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array, Array]:
        nodes, leaf, depth, going, level = carry
        child = indexing.take(state.best_child, leaf)
        going = going & (child != UNVISITED) & (level + 1 < max_depth)
        row = jnp.where(going, child, capacity)
        nodes = jax.lax.dynamic_update_index_in_dim(nodes, row, chunk + level + 1, 0)
        return nodes, jnp.where(going, child, leaf), depth + going, going, level + 1

    start = (nodes, roots, jnp.zeros_like(roots), roots == ROOT, jnp.zeros((), jnp.int32))
    nodes, leaf, depth, _, levels = jax.lax.while_loop(going_anywhere, step, start)
    return Path(nodes, leaf, depth, levels)
