"""The network of alphazero: one torso, a policy head for the prior of the search, and a value head for its leaves."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks import inputs
from jaxrl.networks.actor_critic import Outputs
from jaxrl.networks.heads import CategoricalHead, NarrowDense
from jaxrl.networks.initializers import orthogonal


class PolicyValue(nn.Module):
    """A policy and a value on one torso; the value head has a hidden layer, as in AlphaZero.

    Attributes:
      torso: any Flax module from ``[N, *event]`` to features ``[N, D]``.
      num_actions: A.
      event_rank: the number of axes of one observation's features.
      bounded: the value head ends in a tanh; otherwise values are unbounded.
      hidden: the width of the hidden layer of the value head.
    """

    torso: nn.Module
    num_actions: int
    event_rank: int
    bounded: bool
    hidden: int = 64

    @nn.compact
    def __call__(self, observation: Any) -> Outputs:
        given = inputs.observation_input(observation, self.event_rank)
        features = inputs.torso_features(self.torso, given)
        flat, batch = inputs.flatten_batch(features, 1)
        hidden = nn.relu(nn.Dense(self.hidden, kernel_init=orthogonal())(flat))
        value: jax.Array = NarrowDense(1, 0.1)(hidden)[:, 0].reshape(batch)
        policy = CategoricalHead(self.num_actions)(features, given.mask)
        return Outputs(policy, jnp.tanh(value) if self.bounded else value, features, {})
