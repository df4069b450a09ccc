"""brax and MuJoCo Playground, whose steps take a state to a state: "brax/ant", "playground/CartpoleBalance".

Freeman et al. 2021, "Brax: a differentiable physics engine"; Zakka et al. 2025, "MuJoCo Playground". Both are stepped
without their own wrappers for training, which drop the final observation of an episode and start it again from the same
state.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.envs.adapted.base import Adapted, AdaptedParams, Moved, imported
from jaxrl.types import Array, Box

EPISODE = 1000
"""The time limit of brax's own training."""


def brax_names() -> list[str]:
    """All environments of brax, without those that it tests itself with."""
    return sorted(set(imported("brax.envs", "brax", "brax/")._envs) - {"fast"})


def brax_env(
    name: str, *, backend: str = "generalized", max_steps_in_episode: int = EPISODE
) -> tuple[Adapted, AdaptedParams]:
    """An environment of brax.

    Args:
      name: its name, such as ant.
      backend: the physics: "generalized", "positional", "spring" or "mjx".
      max_steps_in_episode: the time limit.
    """
    envs = imported("brax.envs", "brax", f"brax/{name}")
    return _adapted(f"brax/{name}", envs.get_environment(name, backend=backend), max_steps_in_episode)


def playground_names() -> list[str]:
    """All environments of MuJoCo Playground. Those of locomotion and manipulation download their robots."""
    return sorted(imported("mujoco_playground", "playground", "playground/").registry.ALL_ENVS)


def playground_env(name: str, *, max_steps_in_episode: int | None = None) -> tuple[Adapted, AdaptedParams]:
    """An environment of MuJoCo Playground.

    Args:
      name: its name, such as CartpoleBalance.
      max_steps_in_episode: the time limit; None for the environment's own.
    """
    registry = imported("mujoco_playground", "playground", f"playground/{name}").registry
    config = registry.get_default_config(name)
    if "impl" in config:
        config.impl = "jax"  # warp runs on NVIDIA's GPUs only
    limit = int(config.episode_length) if max_steps_in_episode is None else max_steps_in_episode
    return _adapted(f"playground/{name}", registry.load(name, config=config), limit)


def _adapted(name: str, env: Any, max_steps: int) -> tuple[Adapted, AdaptedParams]:
    def start(key: Array) -> tuple[Any, Any]:
        state = env.reset(key)
        return _seen(state.obs), state

    def move(key: Array, state: Any, action: Array) -> Moved:
        del key
        after = env.step(state, action)
        return Moved(after, _seen(after.obs), after.reward, after.done > 0.5)

    adapted = Adapted(name, env, start, move, Box((int(env.action_size),), -1.0, 1.0), max_steps)
    return adapted, adapted.default_params


def _seen(observation: Any) -> jax.Array:
    """The part of a dict that the policy sees; the others are for critics."""
    return jnp.asarray(observation["state"] if isinstance(observation, dict) else observation, jnp.float32)
