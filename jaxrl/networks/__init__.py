"""Flax networks: torsos from observations to features, and the heads that recipes add."""

from jaxrl.networks.actor_critic import ActorCritic, Outputs, default_torso
from jaxrl.networks.conv import Conv
from jaxrl.networks.critics import (
    CategoricalPolicy,
    ContinuousCritic,
    DeterministicPolicy,
    Ensemble,
    SquashedGaussianPolicy,
    critic_ensemble,
)
from jaxrl.networks.gating import GRUGate
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
from jaxrl.networks.noisy import NoisyDense
from jaxrl.networks.q_values import ActionValueHead, ImplicitQuantileHead, QNetwork
from jaxrl.networks.transformer import Transformer

__all__ = [
    "MLP",
    "ActionValueHead",
    "ActorCritic",
    "CategoricalHead",
    "CategoricalPolicy",
    "ContinuousCritic",
    "Conv",
    "DeterministicPolicy",
    "DiagonalGaussian",
    "Ensemble",
    "GRUGate",
    "GaussianHead",
    "ImplicitQuantileHead",
    "NoisyDense",
    "Outputs",
    "QNetwork",
    "SquashedGaussian",
    "SquashedGaussianPolicy",
    "Transformer",
    "ValueHead",
    "critic_ensemble",
    "default_torso",
    "environment_action",
    "orthogonal",
    "policy_head",
]
