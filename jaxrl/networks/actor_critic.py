"""The network of the on-policy recipes: torsos with a policy head and a value head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl import types
from jaxrl.networks import inputs
from jaxrl.networks.heads import ValueHead
from jaxrl.networks.mlp import MLP
from jaxrl.networks.pixels import image_torso


class Outputs(NamedTuple):
    """The outputs of the network, with the leading axes of the observation.

    Attributes:
      policy: a distrax distribution over raw actions, batch ``[...]``.
      value: ``[...]``; zeros where the recipe has no critic.
      features: features of the actor's torso, ``[..., D]``, or ``[..., *own, D]`` with axes of its own such as tokens.
      heads: the outputs of the user's extra heads, by name.
    """

    policy: Any
    value: jax.Array
    features: jax.Array
    heads: Mapping[str, Any]


class ActorCritic(nn.Module):
    """A policy and a value on one or two torsos, for observations with any leading axes, ``[B]`` or ``[T, B]``.

    Attributes:
      torso: any Flax module from ``[N, *event]`` to features ``[N, D]``, or ``[N, *own, D]`` with axes of its own;
        policy and value then use the mean over these. It is cloned, so that two torsos share no parameters.
      policy: the policy head.
      share_torso: one torso for both; otherwise two of the same shape.
      critic: whether there is a value head; otherwise values are zero.
      event_rank: the number of axes of one observation's features.
      heads: extra modules by name, from the actor's features (all tokens) to the inputs of an auxiliary loss.
    """

    torso: nn.Module
    policy: nn.Module
    share_torso: bool
    critic: bool
    event_rank: int
    heads: Mapping[str, nn.Module]

    def setup(self) -> None:
        self.actor_torso = self.torso.clone(name=None)
        if self.critic:
            self.critic_torso = self.actor_torso if self.share_torso else self.torso.clone(name=None)
            self.value_head = ValueHead()
        self.policy_head = self.policy.clone(name=None)
        self.extra_heads = {name: head.clone(name=None) for name, head in self.heads.items()}

    def actor_features(self, observation: Any) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        """``(features, tokens, mask)`` of the actor.

        Features ``[..., D]``, one vector per observation; the torso's output ``[..., *own, D]``; and the legal actions
        ``[..., A]``, None for all.
        """
        given = inputs.observation_input(observation, self.event_rank)
        tokens = inputs.torso_tokens(self.actor_torso, given)
        return inputs.pooled(tokens, len(given.batch)), tokens, given.mask

    def critic_features(self, observation: Any) -> jax.Array:
        """Features ``[..., D]`` of the critic's torso."""
        return inputs.torso_features(self.critic_torso, inputs.observation_input(observation, self.event_rank))

    def act(self, observation: Any) -> Any:
        """The policy's distribution, batch ``[...]``; the critic is not evaluated."""
        features, _, mask = self.actor_features(observation)
        return self.policy_head(features, mask)

    def evaluate(self, observation: Any) -> jax.Array:
        """Values ``[...]``; the actor is not evaluated."""
        return self.value_head(self.critic_features(observation))

    def __call__(self, observation: Any) -> Outputs:
        features, tokens, mask = self.actor_features(observation)
        extra = {name: head(tokens) for name, head in self.extra_heads.items()}
        if self.critic:
            value = self.value_head(features if self.share_torso else self.critic_features(observation))
        else:
            value = jnp.zeros(features.shape[:-1], jnp.float32)
        return Outputs(self.policy_head(features, mask), value, tokens, extra)


def default_torso(observation_spec: Any) -> nn.Module:
    """``NatureCNN`` for images of at least 36 x 36 pixels, ``Conv`` for smaller ones, ``MLP`` for the rest."""
    torso = image_torso(types.features(observation_spec).shape)
    return MLP() if torso is None else torso
