"""Acting by a planner: planners by name, the last plan as a memory, keys of greedy plans.

Legend of shapes: B environments, H steps of a plan, K numbers of a step.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import jax

from jaxrl import planners, types
from jaxrl.arguments import check_callable
from jaxrl.planners import Plan, PlanFn
from jaxrl.types import Array, PyTree, Remembered, Spec

PLANNERS: dict[str, PlanFn] = {
    "cem": planners.cem,
    "mppi": planners.mppi,
    "random_shooting": planners.random_shooting,
}
"""By name."""


def plan_fn(planner: Any) -> PlanFn:
    """A planner by name, or one that takes what recipes give it.

    Raises:
      TypeError, ValueError: no such name, no function, or one of other arguments.
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
    return planner  # type: ignore[no-any-return]


def memory_of(spec: Spec, options: Mapping[str, Any]) -> Any:
    """The memory of a recipe with the option ``horizon``, for ``envs.remember``."""
    return planners.sequence_like(spec.action, options["horizon"])


def check_memory(spec: Spec, horizon: int) -> None:
    """Refuses an environment that feeds back something else than a plan.

    Raises:
      ValueError: naming what it feeds back.
    """
    fed_back, wanted = types.memory(spec.observation), planners.sequence_like(spec.action, horizon)
    if fed_back is not None and fed_back != wanted:
        raise ValueError(
            f"spec: the environment feeds back {fed_back}, a plan over horizon={horizon} steps is {wanted}: "
            "env = envs.remember(env, planners.sequence_like(spec.action, horizon)), and take the spec of that"
        )


def greedy_keys(steps: Array) -> Array:
    """Keys ``[B]`` that depend on nothing but the steps ``[B]`` of the episodes: other candidates at every step."""
    keys = jax.random.split(jax.random.key(0), steps.shape[0])
    return jax.vmap(jax.random.fold_in)(keys, steps)


def remembered(observation: Any, found: Plan, action: Array) -> Any:
    """The action, with the plan one step later as its memory where the environment feeds one back.

    Args:
      observation: that was acted on.
      found: the plan.
      action: ``[B, ...]``, the plan's or another.
    """
    if types.memory(observation) is None:
        return action
    memory: PyTree = planners.shift(found.sequence)
    return Remembered(action, memory)
