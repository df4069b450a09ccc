"""The backup: what was found at the leaf goes to all nodes above it, and these choose anew."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.search import choice, indexing
from jaxrl.search.base import Backup
from jaxrl.search.choice import Rules, Searching
from jaxrl.search.descent import Path
from jaxrl.search.expansion import Leaf
from jaxrl.types import Array


def mean_backup(value: Array, visits: Array, target: Array) -> Array:
    """``(n v + G) / (n + 1)``: the value of a node is the mean of the returns found from it on.

    Args:
      value: ``[...]`` v.
      visits: ``[...]`` n.
      target: ``[...]`` G.

    >>> float(mean_backup(1.0, 3, 5.0))
    2.0
    """
    return (value * visits + target) / (visits + 1.0)


def back_up(rules: Rules, state: Searching, path: Path, leaf: Leaf, backup: Backup, chunk: int) -> Searching:
    """Takes every path ``chunk`` levels at a time, from the leaf up.

    The recursion ``G = r + discount G'`` is the one thing that goes level by level; all that is large, the rows of
    children and their scores, is done for the levels of a chunk together.
    """

    def unfinished(carry: tuple[Array, Array, Array, Searching]) -> Array:
        return carry[0] > 0

    def climb(carry: tuple[Array, Array, Array, Searching]) -> tuple[Array, Array, Array, Searching]:
        level, target, below, state = carry
        # Rows of the path from ``level`` on are the depths from ``level - chunk`` on, see Path.
        nodes = jax.lax.dynamic_slice_in_dim(path.nodes, level, chunk, 0).T
        children = jax.lax.dynamic_slice_in_dim(path.nodes, level + 1, chunk, 0).T
        depth = level - chunk + jnp.arange(chunk)[None]
        at_leaf, active = depth == path.depth[:, None], depth <= path.depth[:, None]
        target, values, state = _update(state, nodes, children, at_leaf, active, leaf, target, below, backup)
        return level - chunk, target, values[:, 0], choice.at_nodes(rules, state, nodes)

    return jax.lax.while_loop(unfinished, climb, (path.levels, leaf.value, leaf.value, state))[3]


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
    """The statistics of nodes ``[B, C]``, top to bottom, ``below`` being the new value of what follows the last."""
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
        # A leaf that the tree has no room for has no value of its own: its parent keeps the mean of what it was.
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
