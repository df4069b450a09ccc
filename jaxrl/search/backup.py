"""The backup: the return found at the leaf updates all nodes above it, and their choices are computed again."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops import across, numerics
from jaxrl.search import choice, indexing
from jaxrl.search.base import Backup
from jaxrl.search.choice import Rules, Searching
from jaxrl.search.descent import LEVELS, Path
from jaxrl.search.expansion import Leaf
from jaxrl.types import Array


def mean_backup(value: Array, visits: Array, target: Array) -> Array:
    """``(n v + G) / (n + 1)``: the value of a node is the mean of the returns backed up through it.

    Args:
      value: ``[...]`` v.
      visits: ``[...]`` n.
      target: ``[...]`` G.

    >>> float(mean_backup(1.0, 3, 5.0))
    2.0
    """
    # The sum can exceed the range of half precision.
    dtype = jnp.result_type(value, target)
    total = jnp.asarray(value, numerics.wide(dtype)) * visits + target
    return (total / (visits + 1.0)).astype(dtype)


class Climb(NamedTuple):
    """The carry of the loop that backs up.

    Attributes:
      level: the rows of the path from this one on are done.
      target: ``[B]``, the return from there on.
      below: ``[B]``, the new value of the node there.
      order: the list of nodes, see ``empty_order``.
      state: the state of the search.
    """

    level: Array
    target: Array
    below: Array
    order: Array
    state: Searching


def back_up(
    rules: Rules, state: Searching, path: Path, order: Array, leaf: Leaf, backup: Backup
) -> tuple[Searching, Array]:
    """Updates the nodes above the leaves with the returns found there, and computes their choices again.

    Args:
      rules: the selection rules.
      state: the state of the search.
      path: the nodes that the descent visited.
      order: a buffer for a list of nodes, see ``empty_order``.
      leaf: the evaluated leaves.
      backup: how values are averaged.

    Returns:
      The state and the buffer.
    """
    state, order = _climb(state, path, order, leaf, backup)
    return choice.at_roots(rules, _choose(rules, state, path, order)), order


def empty_order(paths: Array) -> Array:
    """An empty buffer for the nodes of all paths in one list, tree after tree."""
    return jnp.zeros((paths.size + _at_once(paths.shape[1]),), jnp.int32)


def _at_once(batch: int) -> int:
    """The number of nodes whose choices are computed together, measured on a CPU; more are wasted on flat trees."""
    return max(16, batch)


def _climb(state: Searching, path: Path, order: Array, leaf: Leaf, backup: Backup) -> tuple[Searching, Array]:
    """Updates the statistics from the leaf upwards, ``LEVELS`` levels at a time, and lists the nodes.

    All trees are processed together, as deep as the deepest path. Nothing here therefore reads a row of children.
    Entries of the list are ``node B + tree``, without the root.
    """
    batch = path.depth.shape[0]
    begin = jnp.cumsum(path.depth) - path.depth

    def unfinished(carry: Climb) -> Array:
        return carry.level > 0

    def climb(carry: Climb) -> Climb:
        level, target, below, order, state = carry
        # Rows of the path from ``level`` on are the depths from ``level - LEVELS`` on, see Path.
        nodes = jax.lax.dynamic_slice_in_dim(path.nodes, level, LEVELS, 0).T
        children = jax.lax.dynamic_slice_in_dim(path.nodes, level + 1, LEVELS, 0).T
        depth = level - LEVELS + jnp.arange(LEVELS, dtype=jnp.int32)[None]
        at_leaf, active = depth == path.depth[:, None], depth <= path.depth[:, None]
        target, values, state = _update(state, nodes, children, at_leaf, active, leaf, target, below, backup)
        place = jnp.where(active & (depth > 0), begin[:, None] + depth - 1, order.shape[0])
        order = order.at[place].set(nodes * batch + jnp.arange(batch, dtype=jnp.int32)[:, None], mode="drop")
        return Climb(level - LEVELS, target, values[:, 0], order, state)

    top = jax.lax.while_loop(unfinished, climb, Climb(path.levels, leaf.value, leaf.value, order, state))
    return top.state, top.order


def _choose(rules: Rules, state: Searching, path: Path, order: Array) -> Searching:
    """Computes the choices again at all nodes of all paths except the roots.

    The nodes stand in one list, so the work grows with the mean depth of the trees and not with the deepest.
    """
    capacity, batch = state.tree.capacity, path.depth.shape[0]
    at_once, count = _at_once(batch), jnp.sum(path.depth, dtype=jnp.int32)
    last = across.max_vmapped(count)

    def unfinished(carry: tuple[Array, Searching]) -> Array:
        return carry[0] < last

    def choose(carry: tuple[Array, Searching]) -> tuple[Array, Searching]:
        begin, state = carry
        entry = jax.lax.dynamic_slice_in_dim(order, begin, at_once, 0)
        nodes = jnp.where(begin + jnp.arange(at_once, dtype=jnp.int32) < count, entry // batch, capacity)
        return begin + at_once, choice.at_nodes(rules, state, entry % batch, nodes)

    return jax.lax.while_loop(unfinished, choose, (jnp.zeros((), jnp.int32), state))[1]


def _update(
    state: Searching,
    nodes: Array,
    children: Array,
    at_leaf: Array,
    active: Array,
    leaf: Leaf,
    target: Array,
    below: Array,
    backup: Backup,
) -> tuple[Array, Array, Searching]:
    """Updates the statistics of nodes ``[B, LEVELS]``, top to bottom. ``below`` is the new value of the next node."""
    tree = state.tree
    actions = indexing.take(state.best, nodes)[..., 1]
    rewards = jnp.where(at_leaf, leaf.reward[:, None], indexing.take(tree.node_rewards, children))
    discounts = jnp.where(at_leaf, leaf.discount[:, None], indexing.take(tree.node_discounts, children))
    targets = []
    for c in reversed(range(nodes.shape[1])):
        target = jnp.where(active[:, c], rewards[:, c] + discounts[:, c] * target, target)
        targets.append(target)
    visits = indexing.take(tree.node_visits, nodes)
    values = backup(indexing.take(tree.node_values, nodes), visits, jnp.stack(targets[::-1], axis=1))
    child_values = jnp.concatenate([values[:, 1:], below[:, None]], axis=1)
    qvalues = rewards + discounts * jnp.where(at_leaf, leaf.value[:, None], child_values)
    child_visits = indexing.take_entry(tree.children_visits, nodes, actions)
    if leaf.kept is not None:
        # In a full tree a leaf stores no value: its parent averages the values found there.
        before = indexing.take_entry(tree.children_qvalues, nodes, actions)
        unkept = at_leaf & ~leaf.kept[:, None]
        qvalues = jnp.where(unkept, mean_backup(before, child_visits, qvalues), qvalues)
    tree = tree._replace(
        node_visits=indexing.put(tree.node_visits, nodes, visits + 1),
        node_values=indexing.put(tree.node_values, nodes, values),
        children_visits=indexing.put_entry(tree.children_visits, nodes, actions, child_visits + 1),
        children_qvalues=indexing.put_entry(tree.children_qvalues, nodes, actions, qvalues),
    )
    return target, values, Searching(tree, state.best)
