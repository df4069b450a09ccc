"""Running normalisation of observations and rewards. Empty statistics, ``()``, switch it off.

``act`` standardises observations with the statistics in the state. ``update`` computes its losses with the same
statistics and refreshes them last, so that the probability ratio of the first minibatch is 1.
Legend of shapes: T steps, B environments.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrl import types
from jaxrl.arguments import check_steps
from jaxrl.networks import inputs
from jaxrl.ops import normalize, returns
from jaxrl.types import Array, Spec, Transition


class Statistics(NamedTuple):
    """The running statistics of an agent; each is ``()`` where the recipe does not normalise.

    Attributes:
      observation: mean and variance of the features.
      reward: mean and variance of the running discounted return, whose standard deviation scales rewards.
    """

    observation: Any
    reward: Any


def init(spec: Spec, observation: bool, reward: bool) -> Statistics:
    """Initial statistics, for observations and rewards as asked."""
    shape = types.features(spec.observation).shape
    return Statistics(
        normalize.init_statistics(shape) if observation else (), normalize.init_statistics(()) if reward else ()
    )


def init_trace(num_envs: int, reward: bool) -> Any:
    """``[B]`` the running discounted return of each environment, or () without reward normalisation."""
    return jnp.zeros((num_envs,), jnp.float32) if reward else ()


def standardize(spec: Spec, statistics: Statistics, observation: Any, clip: Any = 10.0) -> Any:
    """The observation with standardised features; binary flags (``spec.flags``) stay as they are.

    Args:
      spec: the environment's spec.
      statistics: from ``init`` or ``refresh``.
      observation: ``[..., *shape]``.
      clip: the largest absolute value of a standardised feature.
    """
    if statistics.observation == ():
        return observation
    x = inputs.as_float(types.features(observation))
    x = normalize.standardize(statistics.observation, x, clip, flags=spec.flags)
    return observation._replace(features=x) if isinstance(observation, types.Observation) else x


def standardize_trajectory(spec: Spec, statistics: Statistics, trajectory: Transition, clip: Any = 10.0) -> Transition:
    """The trajectory with both of its observations standardised."""
    return trajectory._replace(
        observation=standardize(spec, statistics, trajectory.observation, clip),
        next_observation=standardize(spec, statistics, trajectory.next_observation, clip),
    )


def scale_rewards(
    statistics: Statistics, trace: Any, trajectory: Transition, gamma: Any
) -> tuple[Array, Statistics, Any]:
    """Rewards divided by the standard deviation of the running discounted return, as in OpenAI baselines' VecNormalize.

    The reward statistics are updated with the trajectory before they scale it. ``act`` never reads them, so no
    probability ratio depends on them, and rewards are scaled in the first update already.

    Returns:
      ``(rewards [T, B], statistics, trace)``.

    Raises:
      ValueError: the trajectory is empty.
    """
    check_steps(trajectory.reward.shape)
    if statistics.reward == ():
        return trajectory.reward, statistics, trace
    continue_t = returns.continues(trajectory.terminated, trajectory.truncated)
    discount_t = jnp.full_like(trajectory.reward, gamma)
    traces, last = normalize.discounted_return_trace(trace, trajectory.reward, discount_t, continue_t)
    reward = normalize.update_statistics(statistics.reward, traces)
    # Rewards are scaled but not shifted: a shift would change the optimal policy.
    scaled = trajectory.reward / (normalize.standard_deviation(reward) + 1e-8)
    return jnp.clip(scaled, -10.0, 10.0), statistics._replace(reward=reward), last


def refresh(statistics: Statistics, trajectory: Transition) -> Statistics:
    """The statistics, updated with the observations of a trajectory; call it last in ``update``."""
    if statistics.observation == ():
        return statistics
    x = inputs.as_float(types.features(trajectory.observation))
    return statistics._replace(observation=normalize.update_statistics(statistics.observation, x))
