"""Presets: what a recipe wants in an environment, the only second source of hyper-parameters beside its signature.

A row holds only what differs: from the recipe's fallback row for the settings of the loop, from the recipe's
signature for its hyper-parameters. ``torso`` may name a torso and its sizes: ``{"name": "mlp", "hidden": (64, 64)}``.
"""

from __future__ import annotations

from typing import Any

LOOP = ("num_steps", "num_envs", "rollout_length")
"""The names that are settings of the loop; ``num_steps`` counts the steps of all environments together."""

_VALUES: dict[str, Any] = {"num_steps": 500_000, "num_envs": 8, "rollout_length": 1}
_CLIMBS: dict[str, Any] = {"num_steps": 500_000, "num_envs": 1, "rollout_length": 1}
_SMALL_CLIMB: dict[str, Any] = {
    "num_steps": 20_000,
    "num_envs": 4,
    "num_gradient_steps": 4,
    "learning_starts": 500,
    "gamma": 0.98,
    "torso": {"name": "mlp", "hidden": (64, 64), "activation": "relu"},
}

_TABLE: dict[str, Any] = {"num_steps": 500_000, "num_envs": 8, "rollout_length": 8}
# Steps short enough to average the slips out, and exploration that fades to the end.
_TABLE_FROZEN_LAKE: dict[str, Any] = {
    **_TABLE,
    "learning_rate": 0.5,
    "omega": 0.5,
    "epsilon_end": 0.1,
    "epsilon_steps": 500_000,
}

FALLBACK: dict[str, dict[str, Any]] = {
    "a2c": {"num_steps": 1_000_000, "num_envs": 16, "rollout_length": 8},
    "a3c": {"num_steps": 1_000_000, "num_envs": 16, "rollout_length": 8},
    "alphazero": {"num_steps": 500_000, "num_envs": 64, "rollout_length": 16},
    **{name: dict(_VALUES) for name in ("c51", "dqn", "iqn", "qr_dqn", "rainbow")},
    **{name: dict(_CLIMBS) for name in ("ddpg", "sac", "td3")},
    **{name: dict(_TABLE) for name in ("expected_sarsa", "q_learning", "sarsa")},
    "pqn": {"num_steps": 500_000, "num_envs": 16, "rollout_length": 32, "anneal_learning_rate": True},
    "ppo": {"num_steps": 1_000_000, "num_envs": 16, "rollout_length": 128, "anneal_learning_rate": True},
    "reinforce": {"num_steps": 1_000_000, "num_envs": 8, "rollout_length": 256},
    "trpo": {"num_steps": 1_000_000, "num_envs": 16, "rollout_length": 128},
}
"""For an environment without a row of its own."""

_A2C_MINATAR = {"num_steps": 10_000_000, "num_envs": 64, "rollout_length": 8, "learning_rate": 1e-3}
_A2C_CARTPOLE: dict[str, Any] = {
    "num_steps": 500_000,
    "num_envs": 8,
    "gamma": 0.98,
    "gae_lambda": 0.95,
    "entropy_coef": 0.0,
    "anneal_learning_rate": True,
}
_PPO_MINATAR = {
    "share_torso": True,
    "num_steps": 10_000_000,
    "num_envs": 64,
    "rollout_length": 128,
    "learning_rate": 3e-3,
    "num_minibatches": 8,
}
# Long windows and a short memory: returns near the policy's own, and no chase after the target network's errors.
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
# Where every step costs 1 and values start at 0, what is untried looks best: chance is switched off early.
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
_REINFORCE_MINATAR = {"num_steps": 10_000_000, "num_envs": 64, "rollout_length": 64, "learning_rate": 1e-3}
# Rates that a memory is found at before the choice it should decide has settled without it.
_PPO_RECALL = {"num_steps": 200_000, "learning_rate": 3e-3, "torso": {"name": "gru", "size": 32}}
_MINATAR_GAMES = (
    "Asterix-MinAtar",
    "Breakout-MinAtar",
    "Freeway-MinAtar",
    "Seaquest-MinAtar",
    "SpaceInvaders-MinAtar",
)

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "a2c": {
        "CartPole-v1": _A2C_CARTPOLE,
        "Acrobot-v1": {"num_steps": 500_000, "anneal_learning_rate": True, "gae_lambda": 0.95},
        "Pendulum-v1": {
            "num_steps": 300_000,
            "gamma": 0.9,
            "gae_lambda": 0.9,
            "entropy_coef": 0.0,
            "normalize_reward": True,
            "anneal_learning_rate": True,
        },
        "MountainCar-v0": {"normalize_observation": True, "normalize_reward": True},
        **{game: _A2C_MINATAR for game in _MINATAR_GAMES},
    },
    "a3c": {"CartPole-v1": _A2C_CARTPOLE},
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
            # So much noise that every mistake is met with in training, and values that outweigh any prior in play.
            "search": {"name": "gumbel", "gumbel_scale": 8.0, "value_scale": 0.5},
            "num_simulations": 48,
            # Below 1, so that the faster of two wins is the better one.
            "gamma": 0.8,
            "anneal_learning_rate": True,
        },
        "pgx/connect_four": {
            "num_envs": 128,
            "torso": {"name": "residual", "channels": 32, "blocks": 2},
            # So much noise that games go where good players do not, and mistakes are answered.
            "search": {"name": "gumbel", "gumbel_scale": 3.0},
            "num_simulations": 16,
            "anneal_learning_rate": True,
            "batch_size": 512,
            "num_gradient_steps": 12,
            "learning_starts": 5_000,
        },
    },
    "c51": {
        "CartPole-v1": {**_GREEDY_CARTPOLE, "v_min": 0.0, "v_max": 200.0},
        **{game: {**_GREEDY_MINATAR, "v_min": 0.0, "v_max": 50.0} for game in _MINATAR_GAMES},
    },
    "ddpg": {"Pendulum-v1": _SMALL_CLIMB},
    "dqn": {
        "BitFlipping-N": {
            "num_steps": 600_000,
            "num_envs": 16,
            "rollout_length": 4,
            # ReLU and the plain square: which bits differ is |s - g|, and steep early errors must not be clipped.
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
        **{game: _GREEDY_MINATAR for game in _MINATAR_GAMES},
    },
    "expected_sarsa": {"FrozenLake-misc": _TABLE_FROZEN_LAKE},
    "iqn": {
        "CartPole-v1": _GREEDY_CARTPOLE,
        "Acrobot-v1": _VALUES_ACROBOT,
        "MountainCar-v0": _VALUES_MOUNTAINCAR,
        **{game: _GREEDY_MINATAR for game in _MINATAR_GAMES},
    },
    "pqn": {"CartPole-v1": {"learning_rate": 1e-3, "td_lambda": 0.9, "num_epochs": 4}},
    "ppo": {
        "CartPole-v1": {
            "num_steps": 200_000,
            "num_envs": 8,
            "rollout_length": 32,
            "learning_rate": 1e-3,
            "gamma": 0.98,
            "gae_lambda": 0.8,
            "entropy_coef": 0.0,
            "num_epochs": 10,
            "num_minibatches": 2,
            "anneal_clip": True,
        },
        "Acrobot-v1": {
            "num_steps": 500_000,
            "num_envs": 16,
            "rollout_length": 64,
            "learning_rate": 3e-3,
            "gae_lambda": 0.97,
            "entropy_coef": 0.0,
            "num_epochs": 8,
            "normalize_observation": True,
            "normalize_reward": True,
        },
        "Pendulum-v1": {
            "num_steps": 300_000,
            "num_envs": 8,
            "learning_rate": 1e-3,
            "gamma": 0.95,
            "gae_lambda": 0.9,
            "entropy_coef": 0.0,
            "num_epochs": 10,
            "normalize_reward": True,
        },
        "MountainCar-v0": {
            "gae_lambda": 0.98,
            "learning_rate": 1e-3,
            "normalize_observation": True,
            "normalize_reward": True,
        },
        "MemoryChain-N": _PPO_RECALL,
        "TMaze-N": _PPO_RECALL,
        **{game: _PPO_MINATAR for game in _MINATAR_GAMES},
    },
    "q_learning": {"FrozenLake-misc": _TABLE_FROZEN_LAKE},
    "qr_dqn": {
        "CartPole-v1": {**_GREEDY_CARTPOLE, "num_quantiles": 25},
        "Acrobot-v1": {**_VALUES_ACROBOT, "num_quantiles": 25},
        "MountainCar-v0": {**_VALUES_MOUNTAINCAR, "num_quantiles": 25},
        **{game: _GREEDY_MINATAR for game in _MINATAR_GAMES},
    },
    "rainbow": {
        "CartPole-v1": {**_VALUES_CARTPOLE, "v_min": 0.0, "v_max": 200.0},
        **{game: {**_VALUES_MINATAR, "v_min": 0.0, "v_max": 50.0} for game in _MINATAR_GAMES},
    },
    "reinforce": {
        "CartPole-v1": {"num_steps": 500_000, "num_envs": 4, "max_grad_norm": 0.5, "anneal_learning_rate": True},
        "Acrobot-v1": {"num_steps": 500_000, "anneal_learning_rate": True},
        "Pendulum-v1": {"num_steps": 300_000, "gamma": 0.9, "normalize_reward": True},
        "MountainCar-v0": {"entropy_coef": 0.01, "normalize_observation": True, "normalize_reward": True},
        **{game: _REINFORCE_MINATAR for game in _MINATAR_GAMES},
    },
    "sac": {"Pendulum-v1": _SMALL_CLIMB},
    "sarsa": {"FrozenLake-misc": _TABLE_FROZEN_LAKE},
    "td3": {"Pendulum-v1": _SMALL_CLIMB},
    "trpo": {
        "CartPole-v1": {
            "num_steps": 100_000,
            "num_envs": 8,
            "rollout_length": 64,
            "gamma": 0.98,
            "gae_lambda": 0.9,
            "damping": 0.01,
            "num_minibatches": 8,
        },
        "Pendulum-v1": {
            "num_steps": 300_000,
            "num_envs": 8,
            "rollout_length": 256,
            "gamma": 0.95,
            "gae_lambda": 0.9,
            "normalize_reward": True,
        },
    },
}
"""``PRESETS[recipe][environment]``; "-N" stands for any size, and for none."""


def preset(recipe: str, environment: str) -> dict[str, Any]:
    """The settings of the loop, and the hyper-parameters that differ from the signature's defaults.

    Args:
      recipe: its name; one without a row anywhere gets the loop settings of 16 environments x 128 steps.
      environment: its name; without a row of its own that of its family ("BitFlipping-40": "BitFlipping-N"),
        without that the recipe's fallback.

    Returns:
      A new dict: the names in ``LOOP``, always, then names of the recipe's arguments.
    """
    general = {"num_steps": 1_000_000, "num_envs": 16, "rollout_length": 128}
    rows = PRESETS.get(recipe, {})
    family, _, size = environment.rpartition("-")
    row = rows.get(environment, rows.get(f"{family if size.isdigit() else environment}-N", {}))
    return {**general, **FALLBACK.get(recipe, {}), **row}
