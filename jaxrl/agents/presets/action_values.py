"""Presets of the recipes of action values."""

from __future__ import annotations

from typing import Any

from jaxrl.agents.presets.environments import MINATAR

_LOOP: dict[str, Any] = {"num_steps": 500_000, "num_envs": 8, "rollout_length": 1}
# Long n-step returns and a small replay: nearly on-policy targets that depend little on the target network's errors.
_VALUES_CARTPOLE: dict[str, Any] = {
    "num_steps": 100_000,
    "rollout_length": 4,
    "num_gradient_steps": 16,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "anneal_learning_rate": True,
    "max_grad_norm": None,
    "gamma": 0.995,
    "n_step": 10,
    "target_interval": 250,
    "replay_capacity": 20_000,
}
_GREEDY_CARTPOLE: dict[str, Any] = {**_VALUES_CARTPOLE, "double": True, "epsilon_end": 0.04, "epsilon_steps": 16_000}
_VALUES_ACROBOT: dict[str, Any] = {
    "num_steps": 100_000,
    "rollout_length": 4,
    "num_gradient_steps": 32,
    "batch_size": 64,
    "anneal_learning_rate": True,
    "n_step": 3,
    "target_interval": 250,
    "double": True,
    "epsilon_steps": 12_000,
}
# Every step costs 1 and values start at 0, so values are optimistic and little random exploration is needed.
_VALUES_MOUNTAINCAR: dict[str, Any] = {
    **_VALUES_ACROBOT,
    "num_steps": 120_000,
    "num_gradient_steps": 16,
    "learning_rate": 1e-3,
    "n_step": 5,
    "replay_capacity": 120_000,
    "epsilon_steps": 2_000,
}
_VALUES_MINATAR: dict[str, Any] = {
    "num_steps": 5_000_000,
    "num_envs": 16,
    "rollout_length": 4,
    "num_gradient_steps": 8,
    "learning_rate": 2.5e-4,
    "target_interval": 500,
    "learning_starts": 5_000,
}
_GREEDY_MINATAR: dict[str, Any] = {**_VALUES_MINATAR, "epsilon_steps": 250_000}

FALLBACK: dict[str, dict[str, Any]] = {
    "dqn": dict(_LOOP),
    "c51": dict(_LOOP),
    "qr_dqn": dict(_LOOP),
    "iqn": dict(_LOOP),
    "rainbow": dict(_LOOP),
    "pqn": {"num_steps": 500_000, "num_envs": 16, "rollout_length": 32, "anneal_learning_rate": True},
}
"""The settings for an environment that has no row below."""

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "dqn": {
        "BitFlipping-N": {
            "num_steps": 600_000,
            "num_envs": 16,
            "rollout_length": 4,
            # ReLU, since the differing bits are |s - g|; squared error, since large early errors must not be clipped.
            "torso": {"name": "mlp", "hidden": (256,), "activation": "relu"},
            "huber_delta": None,
            "max_grad_norm": None,
            "replay": {"name": "hindsight"},
            "replay_capacity": 600_000,
            "num_gradient_steps": 4,
            "learning_rate": 1e-3,
            "gamma": 0.98,
            "tau": 0.05,
            "target_interval": 1,
            "epsilon_end": 0.1,
            "epsilon_steps": 20_000,
        },
        "CartPole-v1": {**_GREEDY_CARTPOLE, "huber_delta": None},
        "Acrobot-v1": _VALUES_ACROBOT,
        "MountainCar-v0": _VALUES_MOUNTAINCAR,
        **{game: _GREEDY_MINATAR for game in MINATAR},
    },
    "c51": {
        "CartPole-v1": {**_GREEDY_CARTPOLE, "v_min": 0.0, "v_max": 200.0},
        **{game: {**_GREEDY_MINATAR, "v_min": 0.0, "v_max": 50.0} for game in MINATAR},
    },
    "qr_dqn": {
        "CartPole-v1": {**_GREEDY_CARTPOLE, "num_quantiles": 25},
        "Acrobot-v1": {**_VALUES_ACROBOT, "num_quantiles": 25},
        "MountainCar-v0": {**_VALUES_MOUNTAINCAR, "num_quantiles": 25},
        **{game: _GREEDY_MINATAR for game in MINATAR},
    },
    "iqn": {
        "CartPole-v1": _GREEDY_CARTPOLE,
        "Acrobot-v1": _VALUES_ACROBOT,
        "MountainCar-v0": _VALUES_MOUNTAINCAR,
        **{game: _GREEDY_MINATAR for game in MINATAR},
    },
    "rainbow": {
        "CartPole-v1": {**_VALUES_CARTPOLE, "v_min": 0.0, "v_max": 200.0},
        **{game: {**_VALUES_MINATAR, "v_min": 0.0, "v_max": 50.0} for game in MINATAR},
    },
    "pqn": {"CartPole-v1": {"learning_rate": 1e-3, "td_lambda": 0.9, "num_epochs": 4}},
}
