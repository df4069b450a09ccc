"""Clipped rewards, as the Nature DQN learns from; reported episode returns stay those of the environment."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxrl.signature import recipe
from jaxrl.types import Array, Metrics, PyTree, RewardModel, Spec, Transition


@recipe
def clipped(spec: Spec, *, low: float = -1.0, high: float = 1.0) -> RewardModel:
    """Rewards clipped to an interval: ``min(max(r, low), high)``.

    Games of Atari pay 1 to 10,000 points at once, and errors of one size fit one learning rate. Mnih et al. 2015. Every
    float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``.
      low: the least reward.
      high: the largest reward, at least ``low``.

    Returns:
      A ``RewardModel`` without a state.

    Raises:
      TypeError, ValueError: an argument has the wrong type, or ``low`` is above ``high``.

    >>> import jaxrl
    >>> from jaxrl.feedback import clipped
    >>> env, params = jaxrl.make("SpaceInvaders-MinAtar")
    >>> spec = jaxrl.spec(env, params)
    >>> agent = jaxrl.dqn(spec, reward_model=clipped(spec))
    """
    bounds: tuple[Any, Any] = (low, high)
    if all(isinstance(bound, (int, float)) for bound in bounds) and low > high:
        raise ValueError(f"low: got {low}, must be at most high={high}")

    def init(key: Array, num_envs: int = 1) -> PyTree:
        del key, num_envs
        return ()

    def reward(key: Array, state: PyTree, trajectory: Transition) -> Array:
        del key, state
        return jnp.clip(trajectory.reward, low, high)

    def update(key: Array, state: PyTree, trajectory: Transition) -> tuple[PyTree, Metrics]:
        del key, trajectory
        return state, {}

    return RewardModel(init, reward, update)
