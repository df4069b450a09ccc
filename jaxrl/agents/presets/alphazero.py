"""Presets of alphazero."""

from __future__ import annotations

from typing import Any

FALLBACK: dict[str, dict[str, Any]] = {
    "alphazero": {"num_steps": 500_000, "num_envs": 64, "rollout_length": 16},
}
"""The settings for an environment that has no row below."""

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "alphazero": {
        "CartPole-v1": {
            "num_steps": 100_000,
            "num_envs": 16,
            "search": {"name": "puct"},
            "gamma": 0.99,
            "n_step": 25,
            "torso": {"name": "mlp", "hidden": (64, 64), "activation": "relu"},
            "anneal_learning_rate": True,
            "batch_size": 128,
            "num_gradient_steps": 8,
        },
        "pgx/tic_tac_toe": {
            "num_steps": 400_000,
            "rollout_length": 8,
            "torso": {"name": "mlp", "hidden": (128, 128), "activation": "relu"},
            # Large noise shows every mistake in training; a large value scale lets values outweigh the prior.
            "search": {"name": "gumbel", "gumbel_scale": 8.0, "value_scale": 0.5},
            "num_simulations": 48,
            # Below 1, so that faster wins are worth more.
            "gamma": 0.8,
            "anneal_learning_rate": True,
        },
        "pgx/connect_four": {
            "num_envs": 128,
            "torso": {"name": "residual", "channels": 32, "blocks": 2},
            # Large noise explores moves that good players do not make, so that the network learns to answer mistakes.
            "search": {"name": "gumbel", "gumbel_scale": 3.0},
            "num_simulations": 16,
            "anneal_learning_rate": True,
            "batch_size": 512,
            "num_gradient_steps": 12,
            "learning_starts": 5_000,
        },
    },
}
