"""Presets of the actor-critics that learn from a model: mbpo, mbve, steve."""

from __future__ import annotations

from typing import Any

_LOOP: dict[str, Any] = {"num_steps": 200_000, "num_envs": 1, "rollout_length": 1}
_PENDULUM: dict[str, Any] = {
    "num_steps": 5_000,
    "num_envs": 4,
    "num_gradient_steps": 4,
    "learning_starts": 500,
    "gamma": 0.98,
    "torso": {"name": "mlp", "hidden": (64, 64), "activation": "relu"},
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
        }
    },
    "mbve": {"Pendulum-v1": dict(_PENDULUM)},
    "steve": {"Pendulum-v1": dict(_PENDULUM)},
}
