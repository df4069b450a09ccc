"""Makes the inputs of a search from a ``types.Model`` and a network. The rule for truncation is here and only here.

The model can't step beyond a truncation. A step into a truncated state therefore gets its reward and the value of the
last observation, and every step from there pays that value as its reward and ends the episode.

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
      truncated: bool ``[B]``, True where the episode was truncated on the way here, so that ``state`` belongs to
        another one.
      value: ``[B]``, the value of the last observation.
    """

    state: PyTree
    truncated: Array
    value: Array


def root(evaluate: Evaluate, params: Params, state: PyTree, observation: Any) -> RootFnOutput:
    """The evaluated root states.

    Args:
      evaluate: returns the logits and values of observations.
      params: see ``Params``.
      state: the states of the model, leaves ``[B, ...]``.
      observation: ``[B, ...]``, the observations of these states.
    """
    logits, value = evaluate(params.network, observation)
    return RootFnOutput(logits, value, Node(state, jnp.zeros(value.shape, bool), value))


def recurrent_fn(model: Model, evaluate: Evaluate, gamma: Any = 1.0) -> RecurrentFn:
    """The ``recurrent_fn`` of a search that steps a model and evaluates it; its ``params`` are ``Params``.

    Args:
      model: see ``types.Model``.
      evaluate: returns the logits and values of observations.
      gamma: the discount factor of a step.

    Raises:
      TypeError: an argument has the wrong type; the message names it.
    """
    check_model("model", model)
    check_callable("evaluate", evaluate, "a function (params, observation [B]) -> (logits [B, A], value [B])")

    def step(params: Params, key: Array, action: Array, node: Node) -> tuple[RecurrentFnOutput, Node]:
        keys = jax.random.split(key, action.shape[0])
        simulated = jax.vmap(model.step, (None, 0, 0, 0))(params.model, keys, node.state, action)
        logits, value = evaluate(params.network, simulated.observation)
        output = RecurrentFnOutput(
            reward=jnp.where(node.truncated, node.value, simulated.reward),
            discount=jnp.where(node.truncated, 0.0, gamma * simulated.discount),
            prior_logits=logits,
            value=value,
            invalid_actions=invalid_actions(simulated.observation),
        )
        value = jnp.where(node.truncated, node.value, value)
        return output, Node(simulated.state, node.truncated | simulated.truncated, value)

    return step


def invalid_actions(observation: Any) -> Array | None:
    """``[B, A]``, True where an action is illegal; None if all are legal."""
    mask = action_mask(observation)
    return None if mask is None else ~mask


def check_model(name: str, model: Any) -> None:
    """Refuses a value that is not a ``types.Model``.

    Raises:
      TypeError: it is not a ``Model``; the message names the argument.
    """
    if not isinstance(model, Model) or not callable(model.init) or not callable(model.step):
        raise TypeError(f"{name}: got {model!r}, must be a types.Model such as envs.simulator(env, params)")


__all__ = ["Evaluate", "Node", "Params", "check_model", "invalid_actions", "recurrent_fn", "root"]


def __dir__() -> list[str]:
    return sorted(__all__)
