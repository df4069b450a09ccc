"""A ``types.Model`` and an evaluation of its observations as what a search takes: the one place with a rule for cuts.

A truncated episode has a future that the model can't step into. So a step into a truncated state counts like any other,
with the value of the last observation behind it; and every step from there pays that value and ends.

Legend of shapes: B states, A actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.arguments import check_callable
from jaxrl.search.base import RecurrentFn, RecurrentFnOutput, RootFnOutput
from jaxrl.types import Array, Model, PyTree, action_mask

Evaluate = Callable[[PyTree, Any], tuple[Array, Array]]
"""``(params, observation [B]) -> (logits [B, A], value [B])``, the value in units of returns."""


class Params(NamedTuple):
    """The ``params`` of a search in a model.

    Attributes:
      model: the parameters of the model, ``()`` for the true simulator.
      network: the parameters that ``Evaluate`` takes.
    """

    model: PyTree
    network: PyTree


class Node(NamedTuple):
    """The embedding of a state.

    Attributes:
      state: the state of the model, leaves ``[B, ...]``.
      cut: bool ``[B]``, True where an episode was truncated on the way here: ``state`` belongs to another one.
      value: ``[B]``, the value of the last observation.
    """

    state: PyTree
    cut: Array
    value: Array


def root(evaluate: Evaluate, params: Params, state: PyTree, observation: Any) -> RootFnOutput:
    """The states to search from.

    Args:
      evaluate: logits and values of observations.
      params: see ``Params``.
      state: the states of the model, leaves ``[B, ...]``.
      observation: ``[B, ...]``, what is seen in these states.
    """
    logits, value = evaluate(params.network, observation)
    return RootFnOutput(logits, value, Node(state, jnp.zeros(value.shape, bool), value))


def recurrent_fn(model: Model, evaluate: Evaluate, gamma: Any = 1.0) -> RecurrentFn:
    """A model and an evaluation as what ``jaxrl.search`` steps in; its ``params`` are ``Params``.

    Args:
      model: see ``types.Model``.
      evaluate: logits and values of observations.
      gamma: the discount of a step.

    Raises:
      TypeError: an argument of the wrong kind, named.
    """
    check_model("model", model)
    check_callable("evaluate", evaluate, "a function (params, observation [B]) -> (logits [B, A], value [B])")

    def step(params: Params, key: Array, action: Array, node: Node) -> tuple[RecurrentFnOutput, Node]:
        keys = jax.random.split(key, action.shape[0])
        simulated = jax.vmap(model.step, (None, 0, 0, 0))(params.model, keys, node.state, action)
        logits, value = evaluate(params.network, simulated.observation)
        output = RecurrentFnOutput(
            reward=jnp.where(node.cut, node.value, simulated.reward),
            discount=jnp.where(node.cut, 0.0, gamma * simulated.discount),
            prior_logits=logits,
            value=value,
            invalid_actions=invalid_actions(simulated.observation),
        )
        value = jnp.where(node.cut, node.value, value)
        return output, Node(simulated.state, node.cut | simulated.truncated, value)

    return step


def invalid_actions(observation: Any) -> Array | None:
    """``[B, A]``, True where an action is illegal; None where all are legal."""
    mask = action_mask(observation)
    return None if mask is None else ~mask


def check_model(name: str, model: Any) -> None:
    """Refuses anything but a ``types.Model``.

    Raises:
      TypeError: naming the argument.
    """
    if not isinstance(model, Model) or not callable(model.init) or not callable(model.step):
        raise TypeError(f"{name}: got {model!r}, must be a types.Model such as envs.simulator(env, params)")
