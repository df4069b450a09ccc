"""Flax networks: torsos from observations to features, and the heads that recipes add."""

from jaxrl.networks.actor_critic import ActorCritic, Outputs, default_torso
from jaxrl.networks.conv import Conv
from jaxrl.networks.heads import (
    CategoricalHead,
    DiagonalGaussian,
    GaussianHead,
    SquashedGaussian,
    ValueHead,
    environment_action,
    policy_head,
)
from jaxrl.networks.initializers import orthogonal
from jaxrl.networks.mlp import MLP

__all__ = [
    "MLP",
    "ActorCritic",
    "CategoricalHead",
    "Conv",
    "DiagonalGaussian",
    "GaussianHead",
    "Outputs",
    "SquashedGaussian",
    "ValueHead",
    "default_torso",
    "environment_action",
    "orthogonal",
    "policy_head",
]
