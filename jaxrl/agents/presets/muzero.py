"""Presets of muzero."""

from __future__ import annotations

from typing import Any

FALLBACK: dict[str, dict[str, Any]] = {
    "muzero": {"num_steps": 500_000, "num_envs": 32, "rollout_length": 16},
}
"""The settings for an environment that has no row below."""

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "muzero": {
        "CartPole-v1": {
            "num_steps": 50_000,
            "num_envs": 16,
            "rollout_length": 8,
            "torso": {"name": "mlp", "hidden": (128, 128), "activation": "relu"},
            # Gumbel's scale of values, made for many actions, makes a choice between two nearly certain at once.
            "search": {"name": "puct"},
            "num_simulations": 16,
            # The cart drifts off the track over hundreds of steps.
            "n_step": 25,
            "anneal_learning_rate": True,
            # Policies of old searches hold the network back.
            "replay_capacity": 15_000,
            "num_gradient_steps": 16,
        },
        "pgx/connect_four": {
            "num_envs": 128,
            "torso": {"name": "residual", "channels": 32, "blocks": 2, "planes": 8},
            # As in alphazero's presets: large noise explores moves that good players do not make.
            "search": {"name": "gumbel", "gumbel_scale": 3.0},
            "num_simulations": 16,
            "gamma": 1.0,
            # The largest number of moves of a game: the target is the outcome.
            "n_step": 42,
            "reanalyze_values": False,
            "support_size": 5,
            "value_coef": 1.0,
            "anneal_learning_rate": True,
            "batch_size": 512,
            "num_gradient_steps": 12,
            "learning_starts": 5_000,
        },
    },
}
