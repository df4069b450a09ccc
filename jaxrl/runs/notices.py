"""Notices for the user before a run starts or after it diverged."""

from __future__ import annotations

from pathlib import Path

from jaxrl.runs.config import RunConfig

RANDOM_SIMULATORS = ("pgx/2048", "pgx/backgammon", "pgx/minatar-", "FrozenLake-misc", "UmbrellaChain-bsuite")
"""Environments with random outcomes, by the start of their names."""


def chance(config: RunConfig) -> str:
    """A sentence for recipes that plan in a simulator with random outcomes; "" for all others."""
    is_random = config.environment.startswith(RANDOM_SIMULATORS) or config.environment.endswith("-MinAtar")
    if "search" not in config.parts or not is_random:
        return ""
    return (
        f"note: outcomes in {config.environment} are random, and the search of {config.recipe} draws one outcome for "
        "each edge of its tree; its plans are too optimistic there, see docs/recipes.md"
    )


def after_divergence(config: RunConfig, path: Path, failure: str) -> str:
    """Says what to change after a run diverged; resuming it would only repeat the divergence.

    Args:
      config, path: those of the run.
      failure: what diverged, which begins with the name of the metric.
    """
    if failure.startswith("episode_return "):
        return "the environment's rewards are not finite; jaxrl.envs.check tests an environment"
    values = config.hyperparameters
    changes = ["a lower --learning-rate"] if "learning_rate" in values else []
    if values.get("max_grad_norm", 0) is None:
        changes.append("--max-grad-norm 0.5")
    if values.get("normalize_reward", True) is False:
        changes.append("--normalize-reward")
    change = f" with {' or '.join(changes)}" if changes else " with other hyper-parameters"
    return (
        f"resuming would diverge again: train a new run{change} "
        f"(--init-from {path} starts from its last good parameters)"
    )
