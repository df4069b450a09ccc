"""Relabelling: the outcome of steps under another goal."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.types import Array

GoalFn = Callable[[Array, Array], Array]
"""``(achieved_goal [N, G] of the next observation, goal [N, G]) -> [N]``."""


class Steps(NamedTuple):
    """The fields of windows that a goal changes; leaves ``[n, N, ...]``, invalid steps included.

    Attributes:
      reward, discount, terminated, truncated: as in ``Transition``.
      goal: the goal of the observation.
      achieved_goal: the achieved goal of the next observation.
    """

    reward: Array
    discount: Array
    terminated: Array
    truncated: Array
    goal: Array
    achieved_goal: Array


def relabel(steps: Steps, goal: Array, coin: Array, reward_fn: GoalFn, terminated_fn: GoalFn | None) -> Steps:
    """The same steps under another goal.

    Args:
      steps: ``[n, N, ...]``.
      goal: ``[N, ...]``, the new goals.
      coin: ``[N]`` bool, which windows are relabelled.
      reward_fn: the reward of a step.
      terminated_fn: whether a step reaches the goal and thereby ends the task; None if no goal ends it.

    Returns:
      ``[n, N, ...]``. A step that ended at its own goal but not at the new one is truncated, and its discount is 1
      again.
    """
    goal = jnp.broadcast_to(goal[None], steps.goal.shape)
    reward = _each_step(reward_fn, steps.achieved_goal, goal).astype(steps.reward.dtype)
    new = steps._replace(reward=reward, goal=goal)
    if terminated_fn is not None:
        for_other_reasons = steps.terminated & ~_each_step(terminated_fn, steps.achieved_goal, steps.goal)
        terminated = _each_step(terminated_fn, steps.achieved_goal, goal) | for_other_reasons
        new = new._replace(
            terminated=terminated,
            truncated=steps.truncated | (steps.terminated & ~terminated),
            discount=jnp.where(terminated, 0.0, jnp.where(steps.terminated, 1.0, steps.discount)),
        )
    return jax.tree.map(lambda x, y: where(coin[None], x, y), new, steps)


def where(flag: Array, x: Array, y: Array) -> Array:
    """``x`` where ``flag``, whose axes are the leading ones of both, else ``y``."""
    return jnp.where(flag.reshape(*flag.shape, *(1,) * (x.ndim - flag.ndim)), x, y)


def _each_step(function: GoalFn, achieved_goal: Array, goal: Array) -> Array:
    """Calls a function of ``[N, G]`` on ``[n, N, G]``."""
    n, num = goal.shape[:2]
    return function(*(x.reshape(n * num, *x.shape[2:]) for x in (achieved_goal, goal))).reshape(n, num)
