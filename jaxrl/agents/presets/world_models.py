"""Presets of world_models."""

from __future__ import annotations

from typing import Any

FALLBACK: dict[str, dict[str, Any]] = {
    "world_models": {"num_steps": 20_000, "num_envs": 16, "rollout_length": 125},
}
"""For an environment without a row of its own: the steps of one round."""

PRESETS: dict[str, dict[str, dict[str, Any]]] = {"world_models": {}}
