"""Presets of the actor-critics with a replay."""

from __future__ import annotations

from typing import Any

_LOOP: dict[str, Any] = {"num_steps": 500_000, "num_envs": 1, "rollout_length": 1}
_PENDULUM: dict[str, Any] = {
    "num_steps": 20_000,
    "num_envs": 4,
    "num_gradient_steps": 4,
    "learning_starts": 500,
    "gamma": 0.98,
    "torso": {"name": "mlp", "hidden": (64, 64), "activation": "relu"},
}

FALLBACK: dict[str, dict[str, Any]] = {
    "ddpg": dict(_LOOP),
    "td3": dict(_LOOP),
    "sac": dict(_LOOP),
}
"""The settings for an environment that has no row below."""

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "ddpg": {"Pendulum-v1": _PENDULUM},
    "td3": {"Pendulum-v1": _PENDULUM},
    "sac": {"Pendulum-v1": _PENDULUM},
}
