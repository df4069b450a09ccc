"""The interface of planners, and their shared code.

A planner proposes candidates, computes their returns in a model, and moves a sequence of actions towards the good ones.
Planners differ in how they move the sequence (``Improve``); batching, checks and the final choice are here.

Legend of shapes: B states, N candidates, H steps, K numbers per step, M contenders, A discrete actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxrl.arguments import UNIT, check_callable, check_count, check_float
from jaxrl.planners import sequences
from jaxrl.planners.imagination import TerminalValue, returns
from jaxrl.search.models import check_model
from jaxrl.types import Array, Box, Discrete, Model, PyTree

__all__ = ["Improve", "Plan", "PlanFn", "TerminalValue", "plan", "sequence_like", "shift"]


class Plan(NamedTuple):
    """The result of a planner.

    Attributes:
      action: ``[B, ...]`` the first action, in the environment's units.
      sequence: ``[B, H, K]`` float32, the whole plan: actions in units of the bounds, or logits of discrete actions.
      value: ``[B]`` the return of the plan in the model, ``-inf`` where it is not finite.
    """

    action: Array
    sequence: Array
    value: Array


class PlanFn(Protocol):
    """The planner of a recipe: ``cem``, ``mppi``, ``random_shooting``, with their own arguments bound."""

    def __call__(
        self,
        key: Array,
        params: PyTree,
        model: Model,
        state: PyTree,
        /,
        *,
        space: Discrete | Box,
        horizon: int,
        population: int,
        warm_start: Array | None = None,
        action_mask: Array | None = None,
        terminal_value: TerminalValue | None = None,
        gamma: Any = 1.0,
        num_particles: int = 1,
    ) -> Plan:
        """Plans from B states; the arguments are those of ``plan`` below."""
        ...


Score = Callable[[Array, Array], tuple[Array, Array]]
"""``(key, candidates [N, H, K]) -> (returns [N], taken [N, H, K])``; returns of ``-inf`` are never chosen."""

Improve = Callable[[Array, Score, Array], Array]
"""``(key, score, start [H, K]) -> contenders [M, H, K]``: sequences for one state, of which the best is the plan."""


def plan(
    improve: Improve,
    key: Array,
    params: PyTree,
    model: Model,
    state: PyTree,
    *,
    space: Discrete | Box,
    horizon: int,
    population: int,
    warm_start: Any = None,
    action_mask: Any = None,
    terminal_value: TerminalValue | None = None,
    gamma: Any = 1.0,
    num_particles: int = 1,
) -> Plan:
    """A planner, made of how it improves one sequence; every planner takes these arguments, see ``PlanFn``.

    The plan is the contender of the highest return, the warm start among them: where no candidate of an iteration has
    a finite return, or all are worse, the last plan goes on.

    Args:
      improve: see ``Improve``.
      key: one key, or one for each state ``[B]``.
      params: of the model, ``()`` for the true simulator.
      model: what to plan in; of one player.
      state: states of the model, leaves ``[B, ...]``.
      space: of the actions, ``spec.action``.
      horizon: H, steps of a plan.
      population: N, candidates of an iteration.
      warm_start: ``[B, H, K]`` where to begin, such as ``shift`` of the last plan; None for zeros.
      action_mask: ``[B, A]`` the legal first actions; None for all. Later ones are in the model's observations.
      terminal_value: what follows the last imagined observation; None for 0.
      gamma: discount of the future, a step.
      num_particles: imagined runs of each candidate, whose mean return counts; more than 1 for a random model.

    Raises:
      TypeError, ValueError: an argument of the wrong kind, shape or range, named.
    """
    batch = _check(model, state, space, horizon, population, terminal_value, gamma, num_particles)
    shape = (batch, horizon, sequences.size(space))
    start = jnp.zeros(shape, jnp.float32) if warm_start is None else warm_start
    if start.shape != shape:
        raise ValueError(f"warm_start: got shape {start.shape}, must be {shape}, the shape of Plan.sequence")
    mask = _root_mask(space, action_mask, batch)
    keys = key if key.ndim == (1 if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else 2) else None
    if keys is not None and keys.shape[0] != batch:
        raise ValueError(f"key: got {keys.shape[0]} keys, must be one key, or one for each of {batch} states")

    def plan_one(key: Array, state: PyTree, mask: Array, start: Array) -> Plan:
        improve_key, choose_key = jax.random.split(key)

        def score(key: Array, candidates: Array) -> tuple[Array, Array]:
            total, taken = returns(
                key, params, model, state, mask, candidates, space, gamma, terminal_value, num_particles
            )
            return jnp.where(jnp.isfinite(total), total, -jnp.inf), taken

        contenders = jnp.concatenate([start[None], improve(improve_key, score, start)])
        value, _ = score(choose_key, contenders)
        best = value.argmax()
        sequence = contenders[best]
        return Plan(sequences.decide(space, sequence[0], mask), sequence, value[best])

    return jax.vmap(plan_one)(jax.random.split(key, batch) if keys is None else keys, state, mask, start)


def shift(sequence: Array) -> Array:
    """The plan ``[B, H, K]`` shifted by one step: without its first step, with zeros as its last."""
    return jnp.concatenate([sequence[:, 1:], jnp.zeros_like(sequence[:, :1])], axis=1)


def sequence_like(space: Discrete | Box, horizon: int) -> jax.ShapeDtypeStruct:
    """The shape of the plan of one state, ``[H, K]``, for ``envs.remember`` with a planning agent.

    Args:
      space: action space, ``spec.action``.
      horizon: number of steps of a plan.
    """
    check_count("horizon", horizon)
    return jax.ShapeDtypeStruct((horizon, sequences.size(space)), jnp.float32)


def _root_mask(space: Discrete | Box, action_mask: Array | None, batch: int) -> Array:
    """``[B, A]``; continuous actions are not masked."""
    if not isinstance(space, Discrete):
        return jnp.ones((batch, 1), bool)
    shape = (batch, space.num_actions)
    if action_mask is None:
        return jnp.ones(shape, bool)
    if action_mask.shape != shape:
        raise ValueError(f"action_mask: got shape {action_mask.shape}, must be {shape}, one flag for each action")
    return action_mask


def _check(
    model: Model,
    state: PyTree,
    space: Any,
    horizon: int,
    population: int,
    terminal_value: Any,
    gamma: Any,
    num_particles: int,
) -> int:
    """Checks the arguments and returns B."""
    check_model("model", model)
    if model.num_players != 1:
        raise ValueError(
            f"model: got one with {model.num_players} players, must have one; envs.versus turns a game into one"
        )
    if not isinstance(space, (Discrete, Box)):
        raise TypeError(f"space: got {space!r}, must be a Discrete or a Box such as spec.action")
    for name, value in (("horizon", horizon), ("population", population), ("num_particles", num_particles)):
        check_count(name, value)
    check_float("gamma", gamma, UNIT)
    if terminal_value is not None:
        check_callable("terminal_value", terminal_value, "a function (observation [N, ...]) -> [N], or None")
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(state)}
    if len(sizes) != 1 or () in sizes:
        raise ValueError(f"state: got leaves with leading axes {sorted(sizes)}, all must be B, the number of states")
    return int(sizes.pop()[0])
