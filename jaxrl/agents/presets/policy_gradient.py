"""Presets of the policy-gradient recipes."""

from __future__ import annotations

from typing import Any

from jaxrl.agents.presets.environments import MINATAR

_A2C_MINATAR = {"num_steps": 10_000_000, "num_envs": 64, "rollout_length": 8, "learning_rate": 1e-3}
_A2C_CARTPOLE: dict[str, Any] = {
    "num_steps": 500_000,
    "num_envs": 8,
    "gamma": 0.98,
    "gae_lambda": 0.95,
    "entropy_coef": 0.0,
    "anneal_learning_rate": True,
}
_PPO_MINATAR = {
    "share_torso": True,
    "num_steps": 10_000_000,
    "num_envs": 64,
    "rollout_length": 128,
    "learning_rate": 3e-3,
    "num_minibatches": 8,
}
_REINFORCE_MINATAR = {"num_steps": 10_000_000, "num_envs": 64, "rollout_length": 64, "learning_rate": 1e-3}
_TWO_BOX = {
    "num_envs": 64,
    "rollout_length": 32,
    "learning_rate": 2e-3,
    "gamma": 0.95,
    "entropy_coef": 0.005,
    "normalize_reward": True,
    "num_minibatches": 8,
}
# The learning rate is high enough that memory is learned before the policy converges without it.
_PPO_RECALL = {"num_steps": 200_000, "learning_rate": 3e-3, "torso": {"name": "gru", "size": 32}}

FALLBACK: dict[str, dict[str, Any]] = {
    "reinforce": {"num_steps": 1_000_000, "num_envs": 8, "rollout_length": 256},
    "a2c": {"num_steps": 1_000_000, "num_envs": 16, "rollout_length": 8},
    "a3c": {"num_steps": 1_000_000, "num_envs": 16, "rollout_length": 8},
    "ppo": {"num_steps": 1_000_000, "num_envs": 16, "rollout_length": 128, "anneal_learning_rate": True},
    "trpo": {"num_steps": 1_000_000, "num_envs": 16, "rollout_length": 128},
    "i2a": {"num_steps": 1_000_000, "num_envs": 32, "rollout_length": 64, "anneal_learning_rate": True},
}
"""The settings for an environment that has no row below."""

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "reinforce": {
        "CartPole-v1": {"num_steps": 500_000, "num_envs": 4, "max_grad_norm": 0.5, "anneal_learning_rate": True},
        "Acrobot-v1": {"num_steps": 500_000, "anneal_learning_rate": True},
        "Pendulum-v1": {"num_steps": 300_000, "gamma": 0.9, "normalize_reward": True},
        "MountainCar-v0": {"entropy_coef": 0.01, "normalize_observation": True, "normalize_reward": True},
        **{game: _REINFORCE_MINATAR for game in MINATAR},
    },
    "a2c": {
        "CartPole-v1": _A2C_CARTPOLE,
        "Acrobot-v1": {"num_steps": 500_000, "anneal_learning_rate": True, "gae_lambda": 0.95},
        "Pendulum-v1": {
            "num_steps": 300_000,
            "gamma": 0.9,
            "gae_lambda": 0.9,
            "entropy_coef": 0.0,
            "normalize_reward": True,
            "anneal_learning_rate": True,
        },
        "MountainCar-v0": {"normalize_observation": True, "normalize_reward": True},
        **{game: _A2C_MINATAR for game in MINATAR},
    },
    "a3c": {"CartPole-v1": _A2C_CARTPOLE},
    "ppo": {
        "CartPole-v1": {
            "num_steps": 200_000,
            "num_envs": 8,
            "rollout_length": 32,
            "learning_rate": 1e-3,
            "gamma": 0.98,
            "gae_lambda": 0.8,
            "entropy_coef": 0.0,
            "num_epochs": 10,
            "num_minibatches": 2,
            "anneal_clip": True,
        },
        "Acrobot-v1": {
            "num_steps": 500_000,
            "num_envs": 16,
            "rollout_length": 64,
            "learning_rate": 3e-3,
            "gae_lambda": 0.97,
            "entropy_coef": 0.0,
            "num_epochs": 8,
            "normalize_observation": True,
            "normalize_reward": True,
        },
        "Pendulum-v1": {
            "num_steps": 300_000,
            "num_envs": 8,
            "learning_rate": 1e-3,
            "gamma": 0.95,
            "gae_lambda": 0.9,
            "entropy_coef": 0.0,
            "num_epochs": 10,
            "normalize_reward": True,
        },
        "MountainCar-v0": {
            "gae_lambda": 0.98,
            "learning_rate": 1e-3,
            "normalize_observation": True,
            "normalize_reward": True,
        },
        "MemoryChain-N": _PPO_RECALL,
        "TMaze-N": _PPO_RECALL,
        "TwoBox": {**_TWO_BOX, "share_torso": True, "torso": {"name": "conv", "channels": (32,), "hidden": (128,)}},
        **{game: _PPO_MINATAR for game in MINATAR},
    },
    "i2a": {
        "TwoBox": {
            **_TWO_BOX,
            "model_channels": 24,
            "model_hidden": 32,
            "model_minibatches": 32,
            "model_learning_rate": 5e-3,
        }
    },
    "trpo": {
        "CartPole-v1": {
            "num_steps": 100_000,
            "num_envs": 8,
            "rollout_length": 64,
            "gamma": 0.98,
            "gae_lambda": 0.9,
            "damping": 0.01,
            "num_minibatches": 8,
        },
        "Pendulum-v1": {
            "num_steps": 300_000,
            "num_envs": 8,
            "rollout_length": 256,
            "gamma": 0.95,
            "gae_lambda": 0.9,
            "normalize_reward": True,
        },
    },
}
