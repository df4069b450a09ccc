"""The expansion: the model is called once per batch, and its prediction becomes a node of every tree."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.search import choice, indexing
from jaxrl.search.base import RecurrentFn
from jaxrl.search.choice import Rules, Searching
from jaxrl.search.tree import UNVISITED
from jaxrl.types import Array, PyTree


class Leaf(NamedTuple):
    """The evaluated leaves, ``[B]`` each.

    Attributes:
      node: the node it hangs on.
      action: the action that leads to it.
      reward: of that step.
      discount: the weight of its value.
      value: the value that the model predicted.
      kept: whether the tree had room for it, or None where it has room for all.
    """

    node: Array
    action: Array
    reward: Array
    discount: Array
    value: Array
    kept: Array | None


def expand(
    key: Array,
    params: PyTree,
    rules: Rules,
    state: Searching,
    recurrent_fn: RecurrentFn,
    node: Array,
    slot: Array | None,
) -> tuple[Searching, Leaf]:
    """Evaluates the children that were chosen at nodes ``[B]`` by the model, and adds them to the trees.

    Args:
      key: the model's.
      params: the model's.
      rules: how the new nodes make their first choice.
      state: the search.
      recurrent_fn: the model.
      node: ``[B]`` where descents ended.
      slot: scalar, where the new nodes go in every tree; None where that differs from tree to tree, or where a node
        may be evaluated again because a depth limit ended the descent in front of it.

    Returns:
      The state and what was evaluated.
    """
    tree = state.tree
    action = indexing.take(state.best, node)[:, 1]
    embedding = jax.tree.map(lambda x: indexing.take(x, node), tree.embeddings)
    step, embedding = recurrent_fn(params, key, action, embedding)
    # In the tree's dtype before the mask: the lowest number of another dtype would pass for a legal logit.
    logits = step.prior_logits.astype(tree.children_prior_logits.dtype)
    logits = choice.mask_logits(logits, choice.of_step(step))
    value = step.value.astype(tree.node_values.dtype)
    probs = choice.prior_probs(rules, logits)
    slots, visits, is_new = _slots(state, node, action, slot)

    def write(x: Array, values: Array) -> Array:
        if slot is None:
            return indexing.put(x, slots, values)
        return jax.lax.dynamic_update_index_in_dim(x, values.astype(x.dtype), slot, 1)

    kept = None if slot is not None else slots < tree.capacity
    tree = tree._replace(
        node_visits=write(tree.node_visits, visits + 1),
        node_values=write(tree.node_values, value),
        raw_values=write(tree.raw_values, value),
        node_rewards=write(tree.node_rewards, step.reward),
        node_discounts=write(tree.node_discounts, step.discount),
        parents=write(tree.parents, node),
        action_from_parent=write(tree.action_from_parent, action),
        children_index=indexing.put_entry(
            tree.children_index, node if kept is None else jnp.where(kept, node, tree.capacity), action, slots
        ),
        children_prior_logits=write(tree.children_prior_logits, logits),
        children_prior_probs=write(tree.children_prior_probs, probs),
        embeddings=jax.tree.map(write, tree.embeddings, embedding),
        num_nodes=tree.num_nodes + is_new,
    )
    first = choice.at_new_nodes(rules, value, logits, probs)
    reward, discount = (x.astype(value.dtype) for x in (step.reward, step.discount))
    leaf = Leaf(node, action, reward, discount, value, kept)
    nowhere = jnp.full_like(first, UNVISITED)
    return Searching(tree, write(state.best, choice.pair(tree, nowhere, first))), leaf


def _slots(state: Searching, node: Array, action: Array, slot: Array | None) -> tuple[Array, Array, Array]:
    """Where the evaluated nodes go, N where there is no room; their visits so far; whether they are new."""
    tree = state.tree
    if slot is not None:
        return jnp.broadcast_to(slot, node.shape), jnp.zeros_like(node), jnp.ones_like(node)
    child = indexing.take_entry(tree.children_index, node, action)
    slots = jnp.where(child == UNVISITED, tree.num_nodes, child)
    # Not 0 where a depth limit leads here again, or where there was no room for it so far.
    visits = indexing.take_entry(tree.children_visits, node, action)
    return slots, visits, (child == UNVISITED) & (slots < tree.capacity)
