"""Reward functions of known goal environments in JAX, which hindsight needs to pay for other goals.

Those of Gymnasium-Robotics depend on the distance between the achieved and the desired goal alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrl.types import Array

GoalFn = Callable[[Array, Array], Array]
"""``(achieved_goal [N, G], goal [N, G]) -> [N]``."""


class Task(NamedTuple):
    """A family of environments.

    Attributes:
      threshold: the distance up to which a goal is reached.
      sparse: function from reached ``[N]`` to the sparse reward.
      dense: function from the distance ``[N]`` to the dense reward.
    """

    threshold: float
    sparse: Callable[[Array], Array]
    dense: Callable[[Array], Array]


def _pays_for_missing(reached: Array) -> Array:
    return reached - 1.0


def _pays_for_reaching(reached: Array) -> Array:
    return reached.astype(jnp.float32)


TASKS: dict[str, Task] = {
    "Fetch": Task(0.05, _pays_for_missing, jnp.negative),
    "HandReach": Task(0.01, _pays_for_missing, jnp.negative),
    "PointMaze": Task(0.45, _pays_for_reaching, lambda distance: jnp.exp(-distance)),
    "AntMaze": Task(0.45, _pays_for_reaching, lambda distance: jnp.exp(-distance)),
}
"""By the beginning of the name."""


def functions(name: str, reward_type: Any) -> dict[str, GoalFn]:
    """``reward_fn`` and ``success_fn`` of a registered environment; empty if they are not known.

    Args:
      name: name in the registry of Gymnasium or envpool.
      reward_type: "sparse" or "dense", as it is registered.
    """
    task = next((task for start, task in TASKS.items() if name.startswith(start)), None)
    if task is None or reward_type not in ("sparse", "dense"):
        return {}
    known = task

    def distance(achieved_goal: Array, goal: Array) -> Array:
        return jnp.linalg.norm(achieved_goal - goal, axis=-1)

    def success_fn(achieved_goal: Array, goal: Array) -> Array:
        return distance(achieved_goal, goal) <= known.threshold

    def reward_fn(achieved_goal: Array, goal: Array) -> Array:
        if reward_type == "dense":
            return known.dense(distance(achieved_goal, goal))
        return known.sparse(success_fn(achieved_goal, goal))

    return {"reward_fn": reward_fn, "success_fn": success_fn}
