"""Reuse: the next search starts from the part of the tree below the action that was taken."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.search import indexing
from jaxrl.search.tree import NO_ACTION, NO_PARENT, ROOT, UNVISITED, Tree
from jaxrl.search.validation import check_tree
from jaxrl.types import Array


def subtree(tree: Tree, action: Array, keep: Array | None = None) -> Tree:
    """The subtree below an action, moved so that its root is node 0. The capacity is unchanged.

    The embeddings of unused nodes are undefined.

    Args:
      tree: the tree of a finished search.
      action: ``[B]``, the actions that were taken.
      keep: ``[B]`` bool, False where nothing is kept because a new episode began or the environment did not follow the
        model. None keeps all.

    Returns:
      The trees to pass to a search as ``tree=``. A tree whose action was never followed has no node.

    Raises:
      TypeError: ``tree`` is not a ``Tree``.
      ValueError: ``action`` or ``keep`` does not have shape ``[B]``.
    """
    check_tree(tree)
    batch = tree.node_visits.shape[:1]
    for name, value in {"action": action, "keep": keep}.items():
        if value is not None and jnp.shape(value) != batch:
            raise ValueError(f"{name}: got shape {jnp.shape(value)}, must be {batch}, one for each tree")
    top = jnp.take_along_axis(tree.children_index[:, ROOT], jnp.asarray(action)[:, None], axis=1)[:, 0]
    if keep is not None:
        top = jnp.where(keep, top, UNVISITED)
    member = _is_below(tree, top)
    # The order is kept, so that parents come before their children: the i-th node below becomes node i.
    target = jnp.where(member, jnp.cumsum(member, axis=1, dtype=jnp.int32) - 1, tree.capacity)
    numbers = jnp.broadcast_to(jnp.arange(tree.capacity, dtype=jnp.int32), member.shape)
    source = indexing.put(numbers, target, numbers)
    num_nodes = jnp.sum(member, axis=1, dtype=jnp.int32)
    used = numbers < num_nodes[:, None]

    def move(x: Array, unused: Any) -> Array:
        moved = indexing.take(x, source)
        return jnp.where(used.reshape(*used.shape, *[1] * (x.ndim - 2)), moved, jnp.asarray(unused, x.dtype))

    def rename(nodes: Array, nobody: int) -> Array:
        """Maps old indices of nodes ``[B, K]`` to new ones."""
        renamed = indexing.take(target, nodes)
        return jnp.where((nodes >= 0) & (renamed < tree.capacity), renamed, nobody)

    children = move(tree.children_index, UNVISITED).reshape(*batch, -1)
    return tree._replace(
        node_visits=move(tree.node_visits, 0),
        node_values=move(tree.node_values, 0),
        raw_values=move(tree.raw_values, 0),
        node_rewards=move(tree.node_rewards, 0).at[:, ROOT].set(0),
        node_discounts=move(tree.node_discounts, 0).at[:, ROOT].set(0),
        parents=rename(move(tree.parents, NO_PARENT), NO_PARENT).at[:, ROOT].set(NO_PARENT),
        action_from_parent=move(tree.action_from_parent, NO_ACTION).at[:, ROOT].set(NO_ACTION),
        children_index=rename(children, UNVISITED).reshape(tree.children_index.shape),
        children_visits=move(tree.children_visits, 0),
        children_qvalues=move(tree.children_qvalues, 0),
        children_prior_logits=move(tree.children_prior_logits, 0),
        children_prior_probs=move(tree.children_prior_probs, 0),
        embeddings=jax.tree.map(lambda x: indexing.take(x, source), tree.embeddings),
        root_invalid_actions=jnp.zeros_like(tree.root_invalid_actions),
        num_nodes=num_nodes,
    )


def _is_below(tree: Tree, top: Array) -> Array:
    """Whether nodes ``[B, N]`` are ``top`` ``[B]`` or below it, by pointer jumping."""
    numbers = jnp.arange(tree.capacity, dtype=jnp.int32)[None]
    is_top = numbers == top[:, None]
    above = jnp.where(is_top, numbers, jnp.maximum(tree.parents, ROOT))
    for _ in range(max(1, (tree.capacity - 1).bit_length())):
        above = indexing.take(above, above)
    return (above == top[:, None]) & (tree.node_visits > 0)


def with_new_root(tree: Tree, root: Any, prior_probs: Array, invalid_actions: Array | None) -> Tree:
    """Trees that keep what was found below the root, with a newly evaluated root.

    Args:
      tree: the result of ``subtree``.
      root: a ``RootFnOutput`` with masked logits.
      prior_probs: ``[B, A]``, the prior of the root.
      invalid_actions: ``[B, A]`` or None.
    """
    empty = tree.num_nodes == 0
    return tree._replace(
        node_visits=tree.node_visits.at[:, ROOT].max(1),
        node_values=tree.node_values.at[:, ROOT].set(jnp.where(empty, root.value, tree.node_values[:, ROOT])),
        raw_values=tree.raw_values.at[:, ROOT].set(root.value),
        children_prior_logits=tree.children_prior_logits.at[:, ROOT].set(root.prior_logits),
        children_prior_probs=tree.children_prior_probs.at[:, ROOT].set(prior_probs),
        embeddings=jax.tree.map(lambda x, new: x.at[:, ROOT].set(new), tree.embeddings, root.embedding),
        root_invalid_actions=tree.root_invalid_actions if invalid_actions is None else invalid_actions != 0,
        num_nodes=jnp.maximum(tree.num_nodes, 1),
    )
