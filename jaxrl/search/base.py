"""What goes into a search and what comes out of it. Read this first.

Legend of shapes in this folder: B trees searched side by side, N nodes a tree has room for, A actions; ``...`` in front
of A is any batch of nodes.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from jaxrl.search.tree import Tree
from jaxrl.types import Array, PyTree


class RootFnOutput(NamedTuple):
    """What is known of the states to search from. Anything with these fields will do, mctx's own included.

    Attributes:
      prior_logits: ``[B, A]`` of the policy.
      value: ``[B]`` estimates.
      embedding: leaves ``[B, ...]``, what the model steps from: a hidden state, or that of a simulator.
    """

    prior_logits: Array
    value: Array
    embedding: PyTree


class RecurrentFnOutput(NamedTuple):
    """What a model says of one step. Anything with these fields will do, mctx's own included.

    Attributes:
      reward: ``[B]`` of the step, to the player that moved.
      discount: ``[B]`` the weight of the value behind the step: 0 where it ended the episode, negative where the other
        player moves next.
      prior_logits: ``[B, A]`` of the policy behind the step.
      value: ``[B]`` behind the step, for the player to move there.
      invalid_actions: ``[B, A]``, nonzero where an action is illegal behind the step; None, or no such field, where
        all are legal.
    """

    reward: Array
    discount: Array
    prior_logits: Array
    value: Array
    invalid_actions: Array | None = None


class PolicyOutput(NamedTuple):
    """What a search found.

    Attributes:
      action: ``[B]`` int32, the action to take.
      action_weights: ``[B, A]`` the policy that the search arrived at, a target to train on; sums to one.
      search_tree: all of the tree.
    """

    action: Array
    action_weights: Array
    search_tree: Tree


class NodeStats(NamedTuple):
    """What selection rules and q-transforms see: nodes, and one row of children for each of them.

    What a rule does not read is never loaded.

    Attributes:
      visits: ``[...]`` int32.
      value: ``[...]`` the mean of what was backed up through the node.
      raw_value: ``[...]`` what the model said.
      children_visits: ``[..., A]`` int32.
      children_qvalues: ``[..., A]`` reward + discount * value; 0 where unvisited.
      prior_logits: ``[..., A]``, the lowest finite number where illegal.
      prior_probs: ``[..., A]`` their softmax, with a relative noise of 1e-6 against ties.
      noise: ``[..., A]`` in [0, 1), drawn once for each tree, for rules that have other ties to break.
    """

    visits: Array
    value: Array
    raw_value: Array
    children_visits: Array
    children_qvalues: Array
    prior_logits: Array
    prior_probs: Array
    noise: Array


class RecurrentFn(Protocol):
    """The model that is searched in."""

    def __call__(self, params: PyTree, key: Array, action: Array, embedding: PyTree, /) -> tuple[Any, PyTree]:
        """Steps a batch.

        Args:
          params: as they were given to the search.
          key: one for the batch.
          action: ``[B]`` int32.
          embedding: leaves ``[B, ...]``.

        Returns:
          A ``RecurrentFnOutput`` and the next embedding.
        """
        ...


class Selection(Protocol):
    """How the action to follow is chosen."""

    def __call__(self, node: NodeStats, /) -> Array:
        """Scores ``[..., A]``; of the legal actions the highest is followed, of equals the first."""
        ...


class QTransform(Protocol):
    """How q-values become comparable to what they are added to."""

    def __call__(self, node: NodeStats, /) -> Array:
        """Transformed q-values ``[..., A]``, unvisited actions included."""
        ...


class Backup(Protocol):
    """How a node takes in what was found below it."""

    def __call__(self, value: Array, visits: Array, target: Array, /) -> Array:
        """The node's next value, all ``[...]``.

        Args:
          value: the node's.
          visits: its own, before this one, at least 1.
          target: the return from the node on, of this simulation.
        """
        ...
