"""The inputs and outputs of a search. Read this first.

Legend of shapes in this folder: B trees searched side by side, N the capacity of a tree in nodes, A actions; ``...`` in
front of A is any batch of nodes.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from jaxrl.search.tree import Tree
from jaxrl.types import Array, PyTree


class RootFnOutput(NamedTuple):
    """The evaluation of the states to search from. Any object with these fields works, mctx's included.

    Attributes:
      prior_logits: ``[B, A]``, the logits of the policy.
      value: ``[B]``, the estimated values.
      embedding: leaves ``[B, ...]``, the state that the model steps from: a latent state, or the state of a simulator.
    """

    prior_logits: Array
    value: Array
    embedding: PyTree


class RecurrentFnOutput(NamedTuple):
    """The prediction of a model for one step. Any object with these fields works, mctx's included.

    Attributes:
      reward: ``[B]``, the reward of the step for the player that moved.
      discount: ``[B]``, the weight of the value after the step: 0 where the step ended the episode, negative where the
        other player moves next.
      prior_logits: ``[B, A]``, the logits of the policy after the step.
      value: ``[B]``, the value after the step for the player to move there.
      invalid_actions: ``[B, A]``, nonzero where an action is illegal after the step. None, or no such field, if all
        actions are legal.
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
      action_weights: ``[B, A]``, the improved policy, a target to train on. It sums to one.
      search_tree: the whole tree.
    """

    action: Array
    action_weights: Array
    search_tree: Tree


class NodeStats(NamedTuple):
    """The statistics that selection rules and q-transforms read: of nodes, and of the children of each node.

    XLA removes the reads of fields that a rule does not use.

    Attributes:
      visits: ``[...]`` int32, the number of visits.
      value: ``[...]``, the mean of the returns backed up through the node.
      raw_value: ``[...]``, the value that the model predicted.
      children_visits: ``[..., A]`` int32, the visits of each action.
      children_qvalues: ``[..., A]``, reward + discount * value; 0 where unvisited.
      prior_logits: ``[..., A]``, the lowest finite number where an action is illegal.
      prior_probs: ``[..., A]``, the softmax of the logits, with relative noise of 1e-6 that breaks ties.
      noise: ``[..., A]`` in [0, 1), drawn once per tree, to break other ties.
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
    """The signature of the model that a search steps."""

    def __call__(self, params: PyTree, key: Array, action: Array, embedding: PyTree, /) -> tuple[Any, PyTree]:
        """Steps a batch of states.

        Args:
          params: the ``params`` given to the search.
          key: one key for the batch.
          action: ``[B]`` int32, the actions to take.
          embedding: leaves ``[B, ...]``, the states to step from.

        Returns:
          A ``RecurrentFnOutput`` and the next embedding.
        """
        ...


class Selection(Protocol):
    """The signature of a selection rule."""

    def __call__(self, node: NodeStats, /) -> Array:
        """Returns scores ``[..., A]``. The search follows the legal argmax; the first of equal scores wins."""
        ...


class QTransform(Protocol):
    """The signature of a q-transform, which scales q-values to the scale of the term they are added to."""

    def __call__(self, node: NodeStats, /) -> Array:
        """Returns transformed q-values ``[..., A]``, including those of unvisited actions."""
        ...


class Backup(Protocol):
    """The signature of a backup, which updates the value of a node with a return found below it."""

    def __call__(self, value: Array, visits: Array, target: Array, /) -> Array:
        """Returns the node's next value. All arrays are ``[...]``.

        Args:
          value: the value of the node.
          visits: the visits of the node before this simulation, at least 1.
          target: the return of this simulation from the node on.
        """
        ...
