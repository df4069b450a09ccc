"""Presets of the recipes that plan by a model: mbmf, mpc, pets."""

from __future__ import annotations

from typing import Any

FALLBACK: dict[str, dict[str, Any]] = {
    "mbmf": {"num_steps": 100_000, "num_envs": 4, "rollout_length": 256},
    # Nothing is learned: a run only shows what the plans reach.
    "mpc": {"num_steps": 2_000, "num_envs": 10, "rollout_length": 100},
    "pets": {"num_steps": 10_000, "num_envs": 1, "rollout_length": 50},
}
"""For an environment without a row of its own."""

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "mbmf": {
        "Pendulum-v1": {
            "num_steps": 5_000,
            "num_envs": 1,
            "rollout_length": 250,
            "planner": {"name": "cem", "num_iterations": 3},
            "population": 30,
            "num_members": 3,
            "random_steps": 250,
            "planned_steps": 1_250,
            "cloned_steps": 1_500,
            # From real steps alone, and with rewards as they are, the critic learned nothing.
            "dyna": 20,
            "dyna_updates": 10,
            "gamma": 0.97,
            "gae_lambda": 0.9,
            "normalize_reward": True,
            "num_minibatches": 10,
            "initial_log_std": -0.5,
        },
    },
    "mpc": {"Pendulum-v1": {}},
    "pets": {
        "Pendulum-v1": {
            "num_steps": 2_000,
            "planner": {"name": "cem", "num_iterations": 3},
            "horizon": 20,
            "population": 30,
            "num_elites": 3,
        },
    },
}
