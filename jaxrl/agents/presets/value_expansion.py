"""Presets of the actor-critics that learn from a model: mbpo, mbve, steve."""

from __future__ import annotations

from typing import Any

_LOOP: dict[str, Any] = {"num_steps": 200_000, "num_envs": 1, "rollout_length": 1}
_PENDULUM: dict[str, Any] = {
    "num_steps": 5_000,
    "num_envs": 4,
    "num_gradient_steps": 16,
    "learning_starts": 500,
    "gamma": 0.98,
    "torso": {"name": "mlp", "hidden": (64, 64), "activation": "relu"},
    "replay_capacity": 10_000,
    "model_learning_rate": 3e-3,
}

FALLBACK: dict[str, dict[str, Any]] = {"mbpo": dict(_LOOP), "mbve": dict(_LOOP), "steve": dict(_LOOP)}
"""For an environment without a row of its own."""

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "mbpo": {
        "Pendulum-v1": {
            **_PENDULUM,
            "num_steps": 3_000,
            "num_envs": 1,
            "num_gradient_steps": 10,
            "num_members": 5,
            "num_elites": 3,
        }
    },
    "mbve": {"Pendulum-v1": {**_PENDULUM, "num_members": 3, "data_capacity": 10_000}},
    "steve": {"Pendulum-v1": {**_PENDULUM, "data_capacity": 10_000}},
}
