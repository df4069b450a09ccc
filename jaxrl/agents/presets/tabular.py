"""Presets of the tabular recipes."""

from __future__ import annotations

from typing import Any

_LOOP: dict[str, Any] = {"num_steps": 500_000, "num_envs": 8, "rollout_length": 8}
# Decaying step sizes average over the slips, and exploration decays over the whole run.
_TABLE_FROZEN_LAKE: dict[str, Any] = {
    **_LOOP,
    "learning_rate": 0.5,
    "omega": 0.5,
    "epsilon_end": 0.1,
    "epsilon_steps": 500_000,
}

FALLBACK: dict[str, dict[str, Any]] = {
    "q_learning": dict(_LOOP),
    "sarsa": dict(_LOOP),
    "expected_sarsa": dict(_LOOP),
}
"""The settings for an environment that has no row below."""

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "q_learning": {"FrozenLake-misc": _TABLE_FROZEN_LAKE},
    "sarsa": {"FrozenLake-misc": _TABLE_FROZEN_LAKE},
    "expected_sarsa": {"FrozenLake-misc": _TABLE_FROZEN_LAKE},
}
