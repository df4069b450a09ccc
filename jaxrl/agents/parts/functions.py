"""The policy, the value and the action values of an agent, as functions of its state and of observations."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxrl.arguments import nearest
from jaxrl.types import Agent, Spec


class Functions(NamedTuple):
    """Functions ``(state, observation) -> ...`` of an agent's state and observations ``[B, ...]`` of the environment.

    Observations are normalised with the statistics in the state. A function is None if the recipe does not have it.

    Attributes:
      policy: the distribution over raw actions (distrax), batch ``[B]``, or the actions of a deterministic policy.
      value: ``[B]`` state values; for a critic of state and action, the value of the policy's action.
      action_values: ``[B, A]`` values of all discrete actions.
    """

    policy: Callable[[Any, Any], Any] | None = None
    value: Callable[[Any, Any], Any] | None = None
    action_values: Callable[[Any, Any], Any] | None = None


def functions(recipe: Callable[..., Agent], spec: Spec, **options: Any) -> Functions:
    """The policy, the value and the action values of a recipe, as functions of its state.

    Args:
      recipe: such as ``jaxrl.ppo``.
      spec: the environment's spec, from ``jaxrl.spec``.
      **options: the options of the agent; those that do not concern the network are ignored.

    Raises:
      TypeError: the recipe's module has no ``functions``, or the recipe has no such option.

    >>> import jax, jaxrl
    >>> env, params = jaxrl.make("CartPole-v1")
    >>> spec = jaxrl.spec(env, params)
    >>> state = jaxrl.ppo(spec).init(jax.random.key(0))
    >>> jaxrl.functions(jaxrl.ppo, spec).value(state, spec.zeros(3)).shape
    (3,)
    """
    make = getattr(sys.modules.get(getattr(recipe, "__module__", "")), "functions", None)
    if make is None:
        name = getattr(recipe, "__name__", recipe)
        raise TypeError(
            f"recipe: got {name}, must be a recipe whose module has a function 'functions', such as jaxrl.ppo"
        )
    taken = inspect.signature(make).parameters
    known = {**inspect.signature(recipe).parameters, **taken}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    unknown = [] if takes_any else [name for name in options if name not in known]
    if unknown:
        raise TypeError(f"{recipe.__name__}: unknown option {unknown[0]!r}{nearest(unknown[0], known)}")
    made: Functions = make(spec, **{name: value for name, value in options.items() if name in taken})
    return made
