"""Presets: the hyper-parameters of a recipe in an environment, one file per family of recipes.

A row holds only differences: settings of the loop that differ from the recipe's fallback row, and hyper-parameters that
differ from the recipe's signature. ``torso`` may name a torso and its sizes: ``{"name": "mlp", "hidden": (64, 64)}``.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from jaxrl.agents.presets import (
    action_values,
    actor_critics,
    alphazero,
    muzero,
    outside,
    planning,
    policy_gradient,
    tabular,
    value_expansion,
    world_models,
    writing,
)

LOOP = ("num_steps", "num_envs", "rollout_length")
"""The names that are settings of the loop; ``num_steps`` counts the steps of all environments together."""

_FAMILIES: tuple[Any, ...] = (
    policy_gradient,
    action_values,
    actor_critics,
    tabular,
    alphazero,
    muzero,
    planning,
    value_expansion,
    world_models,
    writing,
)

FALLBACK: dict[str, dict[str, Any]] = {name: row for family in _FAMILIES for name, row in family.FALLBACK.items()}
"""``FALLBACK[recipe]``, the settings for an environment without a row in ``PRESETS``."""

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    name: {**rows, **outside.PRESETS.get(name, {})} for family in _FAMILIES for name, rows in family.PRESETS.items()
}
"""``PRESETS[recipe][environment]``; "-N" stands for any size, or for no size, and "*" for any text."""


def preset(recipe: str, environment: str) -> dict[str, Any]:
    """The settings of the loop, and the hyper-parameters that differ from the signature's defaults.

    Args:
      recipe: name of the recipe; one without any row gets loop settings of 16 environments x 128 steps.
      environment: name of the environment; without a row, that of its family ("BitFlipping-N" for "BitFlipping-40"),
        the first pattern that matches ("ale/*"), or else the recipe's fallback is taken.

    Returns:
      A new dict: all names in ``LOOP``, then arguments of the recipe.
    """
    general = {"num_steps": 1_000_000, "num_envs": 16, "rollout_length": 128}
    rows = PRESETS.get(recipe, {})
    family, _, size = environment.rpartition("-")
    names = (environment, f"{family if size.isdigit() else environment}-N")
    name = next((name for name in rows if name in names or fnmatchcase(environment, name)), "")
    return {**general, **FALLBACK.get(recipe, {}), **rows.get(name, {})}
