"""Acting with a planner: planners by name, the previous plan as memory, keys of greedy plans.

Legend of shapes: B environments, H steps of a plan, K numbers of a step.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import planners, types
from jaxrl.arguments import check_callable
from jaxrl.planners import Plan, PlanFn
from jaxrl.types import Array, PyTree, Remembered, Spec

PLANNERS: dict[str, PlanFn] = {
    "cem": planners.cem,
    "mppi": planners.mppi,
    "random_shooting": planners.random_shooting,
}
"""The planners by name."""


def plan_fn(planner: Any) -> PlanFn:
    """The planner for a name, or the given function, whose arguments are checked.

    Raises:
      TypeError, ValueError: an unknown name, not a function, or a function with other arguments.
    """
    if isinstance(planner, str):
        if planner not in PLANNERS:
            raise ValueError(f"planner: got {planner!r}, must be {' or '.join(PLANNERS)}, or a function")
        return PLANNERS[planner]
    check_callable("planner", planner, "cem, mppi, random_shooting or a function, see planners.PlanFn")
    named = ("space", "horizon", "population", "warm_start", "action_mask", "terminal_value", "gamma", "num_particles")
    try:
        inspect.signature(planner).bind(*[None] * 4, **dict.fromkeys(named))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"planner: got {getattr(planner, '__name__', planner)!r}, must take (key, params, model, state, *, "
            f"{', '.join(named)}) as planners.cem does: {error}"
        ) from error
    return planner


def memory_of(spec: Spec, options: Mapping[str, Any]) -> Any:
    """The memory of a recipe with the option ``horizon``, for ``envs.remember``."""
    return planners.sequence_like(spec.action, options["horizon"])


def check_memory(spec: Spec, horizon: int) -> None:
    """Checks that the environment feeds back plans, if it feeds back anything.

    Raises:
      ValueError: it feeds back something else; the message names it.
    """
    fed_back, wanted = types.memory(spec.observation), planners.sequence_like(spec.action, horizon)
    if fed_back is not None and fed_back != wanted:
        raise ValueError(
            f"spec: got an environment that feeds back {fed_back}, must be a plan over horizon={horizon} steps, "
            f"{wanted}; use the spec of envs.remember(env, planners.sequence_like(spec.action, horizon))"
        )


def greedy_keys(observation: Any) -> Array:
    """Keys ``[B]`` that depend on observations ``[B, ...]`` alone, each with candidates of its own."""
    seen = types.features(observation)
    totals = seen.astype(jnp.float32).reshape(seen.shape[0], -1).sum(axis=1)
    bits = jax.lax.bitcast_convert_type(totals, jnp.uint32)
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), bits)


def remembered(observation: Any, found: Plan, action: Array) -> Any:
    """The action, with the plan shifted by one step as memory where the environment feeds one back.

    Args:
      observation: the observation acted on.
      found: the plan.
      action: ``[B, ...]``, the plan's action or another one.
    """
    if types.memory(observation) is None:
        return action
    memory: PyTree = planners.shift(found.sequence)
    return Remembered(action, memory)
