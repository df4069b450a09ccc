"""Presets for environments outside JAX; the names of rows are patterns, as "ale/*" for every game of Atari.

They start from the tuned values of RL Baselines3 Zoo (Raffin 2020) and, for Atari, of the papers; docs/environments.md
lists what differs.
"""

from __future__ import annotations

from typing import Any

BIPEDAL_WALKER, LUNAR_LANDER, HALF_CHEETAH = "*/BipedalWalker-v3", "*/LunarLander-v3", "*/HalfCheetah-v*"
FETCH_REACH, FETCH_PUSH, FETCH = "*/FetchReach-v*", "*/FetchPush-v*", "*/Fetch*"
ATARI = "ale/*"

_VALUES_ATARI: dict[str, Any] = {
    "num_steps": 10_000_000,
    "num_envs": 8,
    "num_gradient_steps": 2,
    "replay": {"name": "frames"},
    "feedback": {"name": "clipped"},
    "replay_capacity": 1_000_000,
    "batch_size": 32,
    "learning_starts": 50_000,
    "epsilon_end": 0.01,
    "epsilon_steps": 250_000,
}
_WALKER: dict[str, Any] = {
    "gamma": 0.98,
    "replay_capacity": 300_000,
    "learning_starts": 10_000,
    "num_envs": 4,
    "num_gradient_steps": 4,
    "torso": {"name": "mlp", "hidden": (400, 300), "activation": "relu"},
}
_CHEETAH: dict[str, Any] = {"num_steps": 1_000_000, "replay_capacity": 1_000_000, "learning_starts": 10_000}
_REACH: dict[str, Any] = {
    "num_steps": 20_000,
    "gamma": 0.95,
    "replay": {"name": "hindsight"},
    "torso": {"name": "mlp", "hidden": (64, 64), "activation": "relu"},
}
_FETCH: dict[str, Any] = {
    "num_steps": 2_000_000,
    "num_envs": 8,
    "num_gradient_steps": 2,
    "gamma": 0.95,
    "tau": 0.05,
    "replay_capacity": 1_000_000,
    "replay": {"name": "hindsight"},
    "torso": {"name": "mlp", "hidden": (256, 256, 256), "activation": "relu"},
}
_PUSH: dict[str, Any] = {**_FETCH, "num_steps": 1_000_000, "num_gradient_steps": 8}
_ROBOTS: dict[str, Any] = {FETCH_REACH: _REACH, FETCH_PUSH: _PUSH, FETCH: _FETCH}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "dqn": {ATARI: {**_VALUES_ATARI, "learning_rate": 1e-4, "target_interval": 250}},
    "c51": {ATARI: {**_VALUES_ATARI, "learning_rate": 2.5e-4, "target_interval": 2_500}},
    "qr_dqn": {ATARI: {**_VALUES_ATARI, "learning_rate": 5e-5, "target_interval": 2_500, "num_quantiles": 200}},
    "ppo": {
        ATARI: {
            "num_steps": 10_000_000,
            "num_envs": 8,
            "share_torso": True,
            "clip_epsilon": 0.1,
            "anneal_clip": True,
            "feedback": {"name": "clipped"},
        },
        LUNAR_LANDER: {
            "rollout_length": 1024,
            "num_minibatches": 256,
            "learning_rate": 3e-4,
            "gamma": 0.999,
            "gae_lambda": 0.98,
        },
        BIPEDAL_WALKER: {
            "num_steps": 5_000_000,
            "num_envs": 32,
            "rollout_length": 256,
            "num_minibatches": 32,
            "num_epochs": 10,
            "learning_rate": 3e-4,
            "gamma": 0.999,
            "clip_epsilon": 0.18,
            "entropy_coef": 0.0,
            "normalize_observation": True,
            "normalize_reward": True,
        },
        HALF_CHEETAH: {
            "rollout_length": 256,
            "num_minibatches": 32,
            "num_epochs": 10,
            "learning_rate": 3e-4,
            "entropy_coef": 0.0,
            "normalize_observation": True,
            "normalize_reward": True,
        },
    },
    "sac": {
        BIPEDAL_WALKER: {**_WALKER, "learning_rate": 7.3e-4, "tau": 0.02},
        HALF_CHEETAH: {**_CHEETAH, "learning_rate": 3e-4},
        **_ROBOTS,
    },
    "td3": {
        BIPEDAL_WALKER: {**_WALKER, "num_steps": 1_000_000},
        HALF_CHEETAH: _CHEETAH,
        **_ROBOTS,
    },
}
