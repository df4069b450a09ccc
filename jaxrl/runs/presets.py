"""The defaults of ``jaxrl train``, for use in code."""

from __future__ import annotations

from typing import Any

from jaxrl import envs
from jaxrl.agents import presets
from jaxrl.runs.recipes import RECIPES, lookup

GENERAL = {"num_steps": 500_000, "num_envs": 8, "rollout_length": 16}
"""The loop of a recipe that has no preset."""


def defaults_of(recipe: str, environment: str) -> dict[str, Any]:
    """``preset`` for any recipe and environment, including unknown ones, which get ``GENERAL``."""
    return presets.preset(recipe, environment) if recipe in RECIPES else dict(GENERAL)


def preset(recipe: str, environment: str) -> dict[str, Any]:
    """The settings of the loop and the hyper-parameters that ``jaxrl train RECIPE ENV`` uses by default.

    Arguments that are absent have the defaults of the recipe's signature. Pass the loop's settings to ``jaxrl.train``
    and the others to the recipe, for example::

        settings = jaxrl.preset("ppo", "Pendulum-v1")
        loop = {name: settings.pop(name) for name in ("num_steps", "num_envs", "rollout_length")}
        num_updates = loop["num_steps"] // (loop["num_envs"] * loop["rollout_length"])
        agent = jaxrl.ppo(jaxrl.spec(env, params), num_updates=num_updates, **settings)
        state, metrics = jaxrl.train(key, agent, env, params, **loop)

    A part of the recipe (``torso``, ``replay``, ``search``) is a dict with its name and settings, as in the flags:
    ``{"name": "mlp", "hidden": (64, 64)}``. Make the object from it: ``networks.MLP(hidden=(64, 64))``.

    Args:
      recipe: its name, such as "ppo".
      environment: its name; an environment without a preset gets the recipe's general settings.

    Returns:
      A new dict: ``num_steps``, ``num_envs`` and ``rollout_length``, then arguments of the recipe.

    Raises:
      UnknownName, UnknownEnvironment: the recipe or environment is unknown; the message suggests the nearest name.
    """
    lookup("recipe", recipe, RECIPES)
    if ":" not in environment and environment not in envs.registry.DOWNLOADS:  # module:name is made by the user
        envs.make(environment)
    return presets.preset(recipe, environment)
