"""The choice of the action to follow from a node: the selection rule, evaluated when statistics have changed."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops import numerics
from jaxrl.search import indexing
from jaxrl.search.argmax import row_argmax
from jaxrl.search.base import NodeStats, RootFnOutput, Selection
from jaxrl.search.tree import ROOT, UNVISITED, Tree
from jaxrl.types import Array

# A few steps of float32, so that the noise decides ties only.
PRIOR_NOISE = 1e-6


class Searching(NamedTuple):
    """The carry of the loop over simulations.

    The choice at a node depends on its own statistics alone, and these change only when a simulation goes through it.
    So the choices of a whole path are computed after its backup, and a descent reads one number per level.

    Attributes:
      tree: the tree so far.
      best: ``[B, N, 2]`` int32: for every node, the child that its chosen action leads to (N if it has none yet) and
        the action.
    """

    tree: Tree
    best: Array


class Rules(NamedTuple):
    """The selection rules of a search.

    Attributes:
      selection: the rule at every node.
      root_selection: the rule at the root, or None for ``selection``.
      noise: ``[B, A]``, to break ties.
      masked: whether actions can be illegal.
    """

    selection: Selection
    root_selection: Selection | None
    noise: Array
    masked: bool


def best_legal(rules: Rules, selection: Selection, node: NodeStats) -> Array:
    """The legal action ``[...]`` with the highest score; 0 if none is legal."""
    score = selection(node)
    if rules.masked:
        score = jnp.where(node.prior_logits > jnp.finfo(node.prior_logits.dtype).min, score, -jnp.inf)
    return row_argmax(score)


def mask_logits(logits: Array, invalid_actions: Array | None) -> Array:
    """Sets illegal logits to the lowest finite number, so that the softmax of a row of them has no NaN."""
    if invalid_actions is None:
        return logits
    logits = logits - jnp.max(logits, axis=-1, keepdims=True)
    return jnp.where(invalid_actions != 0, jnp.finfo(logits.dtype).min, logits)


def masked_root(root: Any, invalid_actions: Array | None) -> RootFnOutput:
    """A root with masked logits in the dtype of the tree: the dtype of its values, at least float32.

    Half precision can represent neither the mean of many visits nor the noise that breaks ties.
    """
    dtype = numerics.wide(root.value)
    logits, value = jnp.asarray(root.prior_logits, dtype), jnp.asarray(root.value, dtype)
    return RootFnOutput(mask_logits(logits, invalid_actions), value, root.embedding)


def prior_probs(rules: Rules, logits: Array) -> Array:
    """The softmax of ``[B, A]`` times ``1 + PRIOR_NOISE noise``, so that ties are broken differently in each tree.

    mctx adds noise to the scores at every node of every descent; adding it once, when the node is made, costs nothing.
    """
    return jax.nn.softmax(logits, axis=-1) * (1.0 + PRIOR_NOISE * rules.noise)


def at_new_nodes(rules: Rules, value: Array, prior_logits: Array, prior_probs: Array) -> Array:
    """The first action ``[B]`` to follow from each new node."""
    node = NodeStats(
        visits=jnp.ones(value.shape, jnp.int32),
        value=value,
        raw_value=value,
        children_visits=jnp.zeros(prior_logits.shape, jnp.int32),
        children_qvalues=jnp.zeros_like(prior_logits),
        prior_logits=prior_logits,
        prior_probs=prior_probs,
        noise=rules.noise,
    )
    return best_legal(rules, rules.selection, node)


def at_nodes(rules: Rules, state: Searching, trees: Array, nodes: Array) -> Searching:
    """Computes the choices again at nodes ``[K]`` of trees ``[K]``; entries with node index N are skipped."""
    tree = state.tree

    def of_nodes(x: Array) -> Array:
        return indexing.take_listed(x, trees, nodes)

    node = NodeStats(
        visits=of_nodes(tree.node_visits),
        value=of_nodes(tree.node_values),
        raw_value=of_nodes(tree.raw_values),
        children_visits=of_nodes(tree.children_visits),
        children_qvalues=of_nodes(tree.children_qvalues),
        prior_logits=of_nodes(tree.children_prior_logits),
        prior_probs=of_nodes(tree.children_prior_probs),
        noise=rules.noise[trees],
    )
    action = best_legal(rules, rules.selection, node)
    child = indexing.take_listed(tree.children_index, trees, nodes, action)
    return Searching(tree, indexing.put_listed(state.best, pair(tree, child, action), trees, nodes))


def pair(tree: Tree, child: Array, action: Array) -> Array:
    """The entry of ``Searching.best`` for a choice, ``[..., 2]``."""
    return jnp.stack([jnp.where(child == UNVISITED, tree.capacity, child), action], axis=-1)


def at_roots(rules: Rules, state: Searching) -> Searching:
    """Computes the choices at the roots again, by the root's rule."""
    tree = state.tree
    roots = jax.tree.map(lambda x: x[:, ROOT], _everywhere(rules, tree))
    rule = rules.selection if rules.root_selection is None else rules.root_selection
    action = best_legal(rules, rule, roots)
    child = jnp.take_along_axis(tree.children_index[:, ROOT], action[:, None], axis=1)[:, 0]
    return Searching(tree, state.best.at[:, ROOT].set(pair(tree, child, action)))


def everywhere(rules: Rules, tree: Tree) -> Searching:
    """Computes the choices at every node."""
    action = best_legal(rules, rules.selection, _everywhere(rules, tree))
    child = jnp.take_along_axis(tree.children_index, action[..., None], axis=2)[..., 0]
    return at_roots(rules, Searching(tree, pair(tree, child, action)))


def _everywhere(rules: Rules, tree: Tree) -> NodeStats:
    return NodeStats(
        visits=tree.node_visits,
        value=tree.node_values,
        raw_value=tree.raw_values,
        children_visits=tree.children_visits,
        children_qvalues=tree.children_qvalues,
        prior_logits=tree.children_prior_logits,
        prior_probs=tree.children_prior_probs,
        noise=rules.noise[:, None],
    )


def first(rules: Rules, tree: Tree) -> Searching:
    """Computes the choices at the roots of trees that have no other node."""
    nowhere = jnp.full((*tree.parents.shape, 2), tree.capacity, jnp.int32)
    return at_roots(rules, Searching(tree, nowhere))


def of_step(step: Any) -> Array | None:
    """The ``invalid_actions`` of a model's output, or None."""
    return getattr(step, "invalid_actions", None)
