"""The tree: a struct of arrays, one row for each of B trees.

Legend of shapes: B trees, N the capacity of a tree in nodes, A actions, D levels.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops import numerics
from jaxrl.types import Array, PyTree

ROOT = 0
NO_PARENT = -1
UNVISITED = -1
NO_ACTION = -1


class Summary(NamedTuple):
    """The statistics of the roots; the fields are named as in mctx.

    Attributes:
      visit_counts: ``[B, A]``, the visits of each action.
      visit_probs: ``[B, A]``, the visits of legal actions divided by their sum; uniform if there are none.
      value: ``[B]``, the value of the root.
      qvalues: ``[B, A]``, 0 where unvisited.
    """

    visit_counts: Array
    visit_probs: Array
    value: Array
    qvalues: Array


class Tree(NamedTuple):
    """B trees side by side. Node 0 is the root, parents come before their children, and unused nodes have no visits.

    Attributes:
      node_visits: ``[B, N]`` int32, the number of returns backed up through a node, its own evaluation included.
      node_values: ``[B, N]``, the mean of these returns, at least float32.
      raw_values: ``[B, N]``, the values that the model predicted.
      node_rewards: ``[B, N]``, the reward of the step into the node.
      node_discounts: ``[B, N]``, the weight of the node's value in its parent's.
      parents: ``[B, N]`` int32, ``NO_PARENT`` at the root.
      action_from_parent: ``[B, N]`` int32, ``NO_ACTION`` at the root.
      children_index: ``[B, N, A]`` int32, ``UNVISITED`` if there is no node.
      children_visits: ``[B, N, A]`` int32, the visits of each action.
      children_qvalues: ``[B, N, A]``, reward + discount * value of the child; 0 where unvisited.
      children_prior_logits: ``[B, N, A]``, the lowest finite number where an action is illegal.
      children_prior_probs: ``[B, N, A]``, the softmax of the logits, with relative noise of 1e-6 that breaks ties.
      embeddings: leaves ``[B, N, ...]``, the states of the model.
      root_invalid_actions: ``[B, A]`` bool, the illegal actions at the root.
      num_nodes: ``[B]`` int32, the number of nodes in use.
    """

    node_visits: Array
    node_values: Array
    raw_values: Array
    node_rewards: Array
    node_discounts: Array
    parents: Array
    action_from_parent: Array
    children_index: Array
    children_visits: Array
    children_qvalues: Array
    children_prior_logits: Array
    children_prior_probs: Array
    embeddings: PyTree
    root_invalid_actions: Array
    num_nodes: Array

    @property
    def capacity(self) -> int:
        """N, the number of nodes that each tree can hold."""
        return self.node_visits.shape[-1]

    @property
    def num_actions(self) -> int:
        """A, the number of actions."""
        return self.children_index.shape[-1]

    @property
    def children_values(self) -> Array:
        """``[B, N, A]``, the children's values; 0 if there is no node."""
        return self._of_children(self.node_values)

    @property
    def children_rewards(self) -> Array:
        """``[B, N, A]``, the rewards of the steps to the children; 0 if there is no node."""
        return self._of_children(self.node_rewards)

    @property
    def children_discounts(self) -> Array:
        """``[B, N, A]``, the weights of the children's values; 0 if there is no node."""
        return self._of_children(self.node_discounts)

    def _of_children(self, x: Array) -> Array:
        children = self.children_index.reshape(x.shape[0], -1)
        found = jnp.where(children == UNVISITED, 0, jnp.take_along_axis(x, jnp.maximum(children, 0), axis=1))
        return found.reshape(self.children_index.shape)

    def qvalues(self, nodes: Array) -> Array:
        """The q-values ``[B, A]`` of node ``[B]`` of each tree, or of one node index for all trees."""
        indices = jnp.broadcast_to(jnp.asarray(nodes), self.node_visits.shape[:1])
        return jax.vmap(lambda rows, node: rows[node])(self.children_qvalues, indices)

    def summary(self) -> Summary:
        """The statistics of the roots."""
        visits = self.children_visits[:, ROOT].astype(self.node_values.dtype)
        # An action that is illegal now may have been legal, and followed, in the search whose tree was kept.
        counted = jnp.where(self.root_invalid_actions, 0.0, visits)
        total = jnp.sum(counted, axis=-1, keepdims=True)
        probs = jnp.where(total > 0, counted / jnp.maximum(total, 1.0), 1.0 / self.num_actions)
        return Summary(visits, probs, self.node_values[:, ROOT], self.children_qvalues[:, ROOT])

    def depths(self) -> Array:
        """The depth ``[B, N]`` int32 of every node: 0 at the root, -1 for unused nodes.

        Nodes that simulations add after the end of a game are included.
        """

        def add(node: int | Array, depths: Array) -> Array:
            above = jnp.take_along_axis(depths, jnp.maximum(self.parents[:, node], 0)[:, None], axis=1)[:, 0]
            return depths.at[:, node].set(jnp.where(self.node_visits[:, node] > 0, above + 1, -1))

        return jax.lax.fori_loop(1, self.capacity, add, jnp.zeros_like(self.node_visits))

    def principal_variation(self, length: int) -> Array:
        """The most visited action at every step, ``[B, length]`` int32; ``NO_ACTION`` after the last node.

        A node entered with a discount of 0 is the last, since the game is over there.

        Raises:
          ValueError: ``length`` is less than 1.
        """
        if length < 1:
            raise ValueError(f"length: got {length}, must be at least 1")
        trees = jnp.arange(self.node_visits.shape[0], dtype=jnp.int32)

        def follow(node: Array, _: None) -> tuple[Array, Array]:
            inside = node != UNVISITED
            visits = self.children_visits[trees, jnp.maximum(node, 0)]
            inside = inside & (jnp.max(visits, axis=-1) > 0)
            action = jnp.where(inside, jnp.argmax(visits, axis=-1), NO_ACTION).astype(jnp.int32)
            child = self.children_index[trees, jnp.maximum(node, 0), jnp.maximum(action, 0)]
            goes_on = inside & (self.node_discounts[trees, jnp.maximum(child, 0)] != 0)
            return jnp.where(goes_on, child, UNVISITED), action

        root = jnp.full(trees.shape, ROOT, jnp.int32)
        return jax.lax.scan(follow, root, None, length=length)[1].T


def new_tree(root: Any, prior_probs: Array, capacity: int, invalid_actions: Array | None = None) -> Tree:
    """Trees that consist of a root only.

    Args:
      root: a ``RootFnOutput`` with masked logits.
      prior_probs: ``[B, A]``, the prior of the root.
      capacity: N, the number of nodes that each tree can hold.
      invalid_actions: ``[B, A]``, nonzero where an action is illegal, or None.
    """
    batch, num_actions = root.prior_logits.shape
    dtype = numerics.wide(root.value)

    def nodes(at_root: Any, elsewhere: Any, dtype: Any) -> Array:
        return jnp.full((batch, capacity), elsewhere, dtype).at[:, ROOT].set(at_root)

    def rows(fill: Any, dtype: Any) -> Array:
        return jnp.full((batch, capacity, num_actions), fill, dtype)

    return Tree(
        node_visits=nodes(1, 0, jnp.int32),
        node_values=nodes(root.value, 0, dtype),
        raw_values=nodes(root.value, 0, dtype),
        node_rewards=nodes(0, 0, dtype),
        node_discounts=nodes(0, 0, dtype),
        parents=nodes(NO_PARENT, NO_PARENT, jnp.int32),
        action_from_parent=nodes(NO_ACTION, NO_ACTION, jnp.int32),
        children_index=rows(UNVISITED, jnp.int32),
        children_visits=rows(0, jnp.int32),
        children_qvalues=rows(0, dtype),
        children_prior_logits=rows(0, dtype).at[:, ROOT].set(root.prior_logits),
        children_prior_probs=rows(0, dtype).at[:, ROOT].set(prior_probs),
        embeddings=jax.tree.map(
            lambda x: jnp.zeros((batch, capacity, *x.shape[1:]), x.dtype).at[:, ROOT].set(x), root.embedding
        ),
        root_invalid_actions=jnp.zeros((batch, num_actions), bool) if invalid_actions is None else invalid_actions != 0,
        num_nodes=jnp.ones((batch,), jnp.int32),
    )


def size_bytes(root: Any, capacity: int) -> int:
    """The memory in bytes that the trees of a search need, computed without allocating them.

    Args:
      root: a ``RootFnOutput`` of arrays or ``jax.ShapeDtypeStruct``.
      capacity: the nodes of each tree; by default a search uses the number of simulations plus one.

    >>> from jaxrl.search import RootFnOutput
    >>> struct = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    >>> size_bytes(RootFnOutput(struct(64, 362), struct(64), struct(64, 19, 19)), capacity=257)
    143581568
    """
    # Besides the tree, a search keeps four numbers per node: the chosen action, its child, a path and a list.
    choices = root.value.shape[0] * capacity * 4 * 4
    tree = jax.eval_shape(lambda root: new_tree(root, root.prior_logits, capacity), root)
    return choices + sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
