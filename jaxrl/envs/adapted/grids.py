"""Craftax, NAVIX and XLand-MiniGrid: "craftax/Craftax-Symbolic-v1", "navix/Navix-Empty-5x5-v0", "xminigrid/...".

Matthews et al. 2024, "Craftax: a lightning-fast benchmark for open-ended RL"; Pignatelli et al. 2024, "NAVIX: scaling
MiniGrid environments with JAX"; Nikulin et al. 2024, "XLand-MiniGrid: scalable meta-reinforcement learning
environments in JAX".
"""

from __future__ import annotations

from typing import Any

from jaxrl.envs.adapted.base import Adapted, AdaptedParams, Moved, imported
from jaxrl.types import Array, Discrete

CRAFTAX = ("Craftax-Classic-Pixels-v1", "Craftax-Classic-Symbolic-v1", "Craftax-Pixels-v1", "Craftax-Symbolic-v1")


def craftax_names() -> list[str]:
    """All environments of Craftax."""
    imported("craftax", "craftax", "craftax/")
    return list(CRAFTAX)


def craftax_env(name: str, *, max_steps_in_episode: int = 10_000) -> tuple[Adapted, AdaptedParams]:
    """Craftax or Craftax-Classic. Death and victory terminate, the time limit truncates.

    Args:
      name: one of ``craftax_names()``.
      max_steps_in_episode: the time limit; 10,000 as Crafter's.
    """
    env = imported("craftax.craftax_env", "craftax", f"craftax/{name}").make_craftax_env_from_name(name, False)
    endless = env.default_params.replace(max_timesteps=2**30)  # ``Adapted`` truncates

    def start(key: Array) -> tuple[Any, Any]:
        return env.reset_env(key, endless)

    def move(key: Array, state: Any, action: Array) -> Moved:
        observation, state, reward, done, _ = env.step_env(key, state, action, endless)
        return Moved(state, observation, reward, done)

    adapted = Adapted(f"craftax/{name}", env, start, move, Discrete(env.num_actions), max_steps_in_episode)
    return adapted, adapted.default_params


def navix_names() -> list[str]:
    """All environments of NAVIX."""
    return sorted(imported("navix", "navix", "navix/").registry())


def navix_env(name: str, *, max_steps_in_episode: int | None = None) -> tuple[Adapted, AdaptedParams]:
    """An environment of NAVIX, with its symbolic observations ``[H, W, 3]`` uint8.

    Args:
      name: name in its registry, such as Navix-Empty-5x5-v0.
      max_steps_in_episode: the time limit; None for NAVIX's own, 100.
    """
    limit = {} if max_steps_in_episode is None else {"max_steps": max_steps_in_episode}
    env = imported("navix", "navix", f"navix/{name}").make(name, **limit)

    def start(key: Array) -> tuple[Any, Any]:
        timestep = env.reset(key)
        return timestep.observation, timestep

    def move(key: Array, timestep: Any, action: Array) -> Moved:
        # Layouts are drawn from the state's key, and ``step`` would reset one step too late.
        after = env._step(timestep.replace(state=timestep.state.replace(key=key)), action)
        return Moved(after, after.observation, after.reward, after.is_termination(), after.is_truncation())

    adapted = Adapted(f"navix/{name}", env, start, move, Discrete(len(env.action_set)), int(env.max_steps))
    return adapted, adapted.default_params


def xminigrid_names() -> list[str]:
    """All environments of XLand-MiniGrid; those of XLand have the default ruleset."""
    return sorted(imported("xminigrid", "xminigrid", "xminigrid/").registered_environments())


def xminigrid_env(name: str, *, max_steps_in_episode: int | None = None) -> tuple[Adapted, AdaptedParams]:
    """An environment of XLand-MiniGrid, with observations ``[H, W, 2]``: tile and colour of each cell in view.

    Args:
      name: name in its registry, such as MiniGrid-Empty-5x5.
      max_steps_in_episode: the time limit, on which rewards depend; None for the environment's own.
    """
    env, params = imported("xminigrid", "xminigrid", f"xminigrid/{name}").make(name)
    if max_steps_in_episode is not None:
        params = params.replace(max_steps=max_steps_in_episode)

    def start(key: Array) -> tuple[Any, Any]:
        timestep = env.reset(params, key)
        return timestep.observation, timestep

    def move(key: Array, timestep: Any, action: Array) -> Moved:
        del key
        after = env.step(params, timestep, action)
        terminated = after.last() & (after.discount == 0)
        return Moved(after, after.observation, after.reward, terminated, after.last() & ~terminated)

    actions = Discrete(int(env.num_actions(params)))
    adapted = Adapted(f"xminigrid/{name}", env, start, move, actions, int(params.max_steps))
    return adapted, adapted.default_params
