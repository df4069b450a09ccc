"""The network of learned rewards: from observations and actions to one number each."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from jaxrl import networks, types
from jaxrl.networks import inputs
from jaxrl.networks.actions import action_input
from jaxrl.ops import normalize
from jaxrl.signature import Torso
from jaxrl.types import Array, Box, Discrete, Spec


class RewardNetwork(nn.Module):
    """Rewards ``[...]`` of observations and actions with any leading axes.

    Vectors are joined with the action before the torso, features of images after it, before a hidden layer.

    Attributes:
      torso: any Flax module from ``[N, *event]`` to features ``[N, D]``.
      action: the action space.
      event_rank: the number of axes of one observation's features.
    """

    torso: nn.Module
    action: Discrete | Box
    event_rank: int

    def setup(self) -> None:
        self.own_torso = self.torso.clone(name=None)
        self.joint = nn.Dense(64, kernel_init=networks.orthogonal())
        self.head = networks.ValueHead()

    def __call__(self, observation: Any, action: Array) -> Array:
        given = inputs.observation_input(observation, self.event_rank)
        taken = action_input(self.action, _in_units(self.action, action)).reshape(given.x.shape[0], -1)
        if self.event_rank < 2:
            x = jnp.concatenate([inputs.as_float(given.x), taken], axis=-1)
            return self.head(inputs.torso_features(self.own_torso, given._replace(x=x)))
        x = inputs.torso_features(self.own_torso, given)
        x = jnp.concatenate([x, taken.reshape(*given.batch, -1)], axis=-1)
        return self.head(jnp.tanh(self.joint(x)))


def make_network(spec: Spec, torso: Torso | None) -> RewardNetwork:
    """The network for an environment.

    Args:
      spec: the environment's spec.
      torso: Flax module; None chooses MLP or Conv by the observation's shape.

    Raises:
      TypeError: the torso has a memory.
    """
    torso = networks.default_torso(spec.observation) if torso is None else torso
    if networks.is_recurrent(torso):
        raise TypeError(f"torso: got {torso!r}, must be a Flax module without a memory such as MLP()")
    return RewardNetwork(torso, spec.action, inputs.event_rank(spec.observation))


def standardize(spec: Spec, statistics: normalize.RunningStatistics, observation: Any) -> Any:
    """The observation with features of mean 0 and standard deviation 1, clipped to 5."""
    x = inputs.as_float(types.features(observation))
    x = normalize.standardize(statistics, x, clip=5.0, flags=spec.flags)
    return observation._replace(features=x) if isinstance(observation, types.Observation) else x


def _in_units(space: Discrete | Box, action: Array) -> Array:
    """Continuous actions divided by the largest absolute bound of their axis, where that is finite."""
    if isinstance(space, Discrete):
        return action
    with np.errstate(over="ignore"):
        bounds = [jnp.broadcast_to(jnp.asarray(bound, jnp.float32), space.shape) for bound in (space.low, space.high)]
    largest = jnp.maximum(*map(jnp.abs, bounds))
    usable = jnp.isfinite(largest) & (largest > 0.0)
    scale = jnp.where(usable, largest, 1.0)
    return action.astype(jnp.float32) / scale.reshape((1,) * (action.ndim - scale.ndim) + scale.shape)
