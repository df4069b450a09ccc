"""The expansion: one call of the model for the batch, whose predictions become new nodes of the trees."""

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
      node: the parent of the leaf.
      action: the action that leads to the leaf.
      reward: the reward of that step.
      discount: the weight of the leaf's value.
      value: the value that the model predicted.
      kept: whether the leaf was stored, or None if the capacity is enough for every leaf.
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
    """Evaluates the chosen children of nodes ``[B]`` with the model and adds them to the trees.

    Args:
      key: the key for the model.
      params: the parameters of the model.
      rules: the selection rules, for the first choice at the new nodes.
      state: the state of the search.
      recurrent_fn: the model.
      node: ``[B]``, where the descents ended.
      slot: scalar, the index of the new node in every tree. None if it differs from tree to tree, or if a node can be
        evaluated again because the depth limit ended the descent above it.

    Returns:
      The state and the evaluated leaves.
    """
    tree = state.tree
    action = indexing.take(state.best, node)[:, 1]
    embedding = jax.tree.map(lambda x: indexing.take(x, node), tree.embeddings)
    step, embedding = recurrent_fn(params, key, action, embedding)
    # Cast to the tree's dtype before masking: the lowest number of another dtype would look like a legal logit.
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
    """The indices of the evaluated nodes (N if the tree is full), their visits so far, and whether they are new."""
    tree = state.tree
    if slot is not None:
        return jnp.broadcast_to(slot, node.shape), jnp.zeros_like(node), jnp.ones_like(node)
    child = indexing.take_entry(tree.children_index, node, action)
    slots = jnp.where(child == UNVISITED, tree.num_nodes, child)
    # Nonzero if a depth limit leads here again, or if the tree was full.
    visits = indexing.take_entry(tree.children_visits, node, action)
    return slots, visits, (child == UNVISITED) & (slots < tree.capacity)
