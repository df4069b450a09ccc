"""The inputs and outputs of a search. Read this first.

Legend of shapes in this folder: B trees searched side by side, N nodes a tree has room for, A actions; ``...`` in front
of A is any batch of nodes.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from jaxrl.search.tree import Tree
from jaxrl.types import Array, PyTree


class RootFnOutput(NamedTuple):
    """The evaluation of the states to search from. Any object with these fields works, mctx's included.

    Attributes:
      prior_logits: ``[B, A]`` of the policy.
      value: ``[B]`` estimates.
      embedding: leaves ``[B, ...]``, the state that the model steps from: hidden, or that of a simulator.
    """

    prior_logits: Array
    value: Array
    embedding: PyTree


class RecurrentFnOutput(NamedTuple):
    """The prediction of a model for one step. Any object with these fields works, mctx's included.

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
    """The result of a search.

    Attributes:
      action: ``[B]`` int32, the action to take.
      action_weights: ``[B, A]`` the improved policy, a target to train on; sums to one.
      search_tree: all of the tree.
    """

    action: Array
    action_weights: Array
    search_tree: Tree


class NodeStats(NamedTuple):
    """The statistics that selection rules and q-transforms read: nodes, and one row of children for each of them.

    Fields that a rule does not read are never loaded.

    Attributes:
      visits: ``[...]`` int32.
      value: ``[...]`` the mean of the returns backed up through the node.
      raw_value: ``[...]`` the value that the model predicted.
      children_visits: ``[..., A]`` int32.
      children_qvalues: ``[..., A]`` reward + discount * value; 0 where unvisited.
      prior_logits: ``[..., A]``, the lowest finite number where illegal.
      prior_probs: ``[..., A]`` their softmax, with a relative noise of 1e-6 that breaks ties.
      noise: ``[..., A]`` in [0, 1), drawn once per tree, to break other ties with.
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
    """A selection rule."""

    def __call__(self, node: NodeStats, /) -> Array:
        """Scores ``[..., A]``: the search follows the legal argmax; ties go to the first."""
        ...


class QTransform(Protocol):
    """A q-transform: it brings q-values to the scale of what they are added to."""

    def __call__(self, node: NodeStats, /) -> Array:
        """Transformed q-values ``[..., A]``, unvisited actions included."""
        ...


class Backup(Protocol):
    """A backup: it updates the value of a node with a return found below it."""

    def __call__(self, value: Array, visits: Array, target: Array, /) -> Array:
        """The node's next value, all ``[...]``.

        Args:
          value: the node's.
          visits: its own, before this one, at least 1.
          target: the return from the node on, of this simulation.
        """
        ...
