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
from jaxrl.networks.gru import GRU
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
from jaxrl.networks.inputs import as_float
from jaxrl.networks.mlp import MLP
from jaxrl.networks.muzero import BoardDynamics, DenseDynamics, MuZero
from jaxrl.networks.noisy import NoisyDense
from jaxrl.networks.pixels import ImpalaCNN, NatureCNN, image_torso
from jaxrl.networks.policy_value import PolicyValue
from jaxrl.networks.q_values import ActionValueHead, ImplicitQuantileHead, QNetwork
from jaxrl.networks.recurrent import Memory, RecurrentActorCritic, Sequences, is_recurrent, memory_of
from jaxrl.networks.residual import Residual
from jaxrl.networks.transformer import Transformer

__all__ = [
    "GRU",
    "MLP",
    "ActionValueHead",
    "ActorCritic",
    "BoardDynamics",
    "CategoricalHead",
    "CategoricalPolicy",
    "ContinuousCritic",
    "Conv",
    "DeterministicPolicy",
    "DiagonalGaussian",
    "DenseDynamics",
    "Ensemble",
    "GRUGate",
    "GaussianHead",
    "ImpalaCNN",
    "ImplicitQuantileHead",
    "Memory",
    "MuZero",
    "NatureCNN",
    "NoisyDense",
    "Outputs",
    "PolicyValue",
    "QNetwork",
    "RecurrentActorCritic",
    "Sequences",
    "Residual",
    "SquashedGaussian",
    "SquashedGaussianPolicy",
    "Transformer",
    "ValueHead",
    "as_float",
    "critic_ensemble",
    "default_torso",
    "environment_action",
    "image_torso",
    "is_recurrent",
    "memory_of",
    "orthogonal",
    "policy_head",
]


def __dir__() -> list[str]:
    return sorted(__all__)
