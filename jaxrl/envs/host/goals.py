"""Reward functions of known goal environments in JAX, which hindsight needs to pay for other goals.

Those of Gymnasium-Robotics depend on the distance between the achieved and the desired goal alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrl.types import Array

RewardFn = Callable[[Array, Array], Array]
"""``(achieved_goal [N, G], goal [N, G]) -> reward [N]``."""


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


def reward_fn(name: str, arguments: dict[str, Any]) -> RewardFn | None:
    """The reward function of a registered environment; None if it is not known.

    Args:
      name: name in Gymnasium's registry.
      arguments: the arguments that it is registered with.
    """
    task = next((task for start, task in TASKS.items() if name.startswith(start)), None)
    kind = arguments.get("reward_type")
    if task is None or kind not in ("sparse", "dense"):
        return None
    known = task

    def reward(achieved_goal: Array, goal: Array) -> Array:
        distance = jnp.linalg.norm(achieved_goal - goal, axis=-1)
        return known.dense(distance) if kind == "dense" else known.sparse(distance <= known.threshold)

    return reward
