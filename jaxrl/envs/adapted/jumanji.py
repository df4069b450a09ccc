"""Jumanji's environments for one agent: "jumanji/Snake-v1", "jumanji/Game2048-v1".

Bonnet et al. 2024, "Jumanji: a diverse suite of scalable reinforcement learning environments in JAX". Jumanji ends an
episode at its time limit as a termination, from which nothing would be bootstrapped. Here its own limits are lifted and
episodes are truncated instead.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.adapted.base import NO_LIMIT, Adapted, AdaptedParams, Moved, imported
from jaxrl.types import Array, Box, Discrete, Observation

ENDLESS = 2**30
"""A time limit out of reach."""

MOST_ACTIONS = 10_000
"""The largest number of combinations of several discrete actions."""

LEFT_OUT = ("action_mask", "step_count")
"""The parts of an observation that are no features."""


def jumanji_names() -> list[str]:
    """All environments of Jumanji."""
    return sorted(imported("jumanji", "jumanji", "jumanji/").registered_environments())


def jumanji_env(name: str, *, max_steps_in_episode: int | None = None) -> tuple[Adapted, AdaptedParams]:
    """An environment of Jumanji.

    The features of an observation are its only part besides the mask and the step count, or all parts as one vector.
    Several discrete actions become one, if there are at most 10,000 combinations.

    Args:
      name: name in its registry, such as Snake-v1.
      max_steps_in_episode: the time limit; None for Jumanji's own.

    Raises:
      ValueError: there are several agents, or too many actions.
    """
    jumanji = imported("jumanji", "jumanji", f"jumanji/{name}")
    env = jumanji.make(name)
    limit = getattr(env, "time_limit", None)
    if limit is not None:
        env = jumanji.make(name, time_limit=ENDLESS)
    action, sizes = _actions(name, env)
    mask = getattr(env.observation_spec, "action_mask", None)
    if sizes and mask is not None and tuple(mask.shape) != sizes:
        raise ValueError(f"jumanji/{name}: got a mask {tuple(mask.shape)} for actions {sizes}, must be for one agent")
    if env.reward_spec.shape != ():
        raise ValueError(f"jumanji/{name}: got rewards of shape {env.reward_spec.shape}, must be for one agent")

    def start(key: Array) -> tuple[Any, Any]:
        state, timestep = env.reset(key)
        return _seen(timestep.observation), state

    def move(key: Array, state: Any, action: Array) -> Moved:
        del key
        action = jnp.stack(jnp.unravel_index(action, sizes)) if len(sizes) > 1 else action
        state, timestep = env.step(state, action.astype(env.action_spec.dtype))
        terminated = timestep.last() & (timestep.discount == 0)
        return Moved(state, _seen(timestep.observation), timestep.reward, terminated, timestep.last() & ~terminated)

    own = NO_LIMIT if limit is None else int(limit)
    adapted = Adapted(f"jumanji/{name}", env, start, move, action, max_steps_in_episode or own)
    return adapted, adapted.default_params


def _actions(name: str, env: Any) -> tuple[Discrete | Box, tuple[int, ...]]:
    """The actions, and the numbers of values of discrete ones."""
    spec = env.action_spec
    if not hasattr(spec, "num_values"):
        low, high = (
            np.broadcast_to(np.asarray(bound, np.float32), spec.shape) for bound in (spec.minimum, spec.maximum)
        )
        return Box(tuple(spec.shape), low, high), ()
    sizes = tuple(np.asarray(spec.num_values).reshape(-1).tolist())
    if math.prod(sizes) > MOST_ACTIONS:
        raise ValueError(f"jumanji/{name}: got {sizes} actions, must have at most {MOST_ACTIONS} combinations")
    return Discrete(math.prod(sizes)), sizes


def _seen(observation: Any) -> Any:
    parts = observation._asdict() if hasattr(observation, "_asdict") else {"features": observation}
    leaves = jax.tree.leaves({name: part for name, part in parts.items() if name not in LEFT_OUT})
    features = leaves[0]
    if len(leaves) > 1:
        features = jnp.concatenate([jnp.asarray(leaf, jnp.float32).reshape(-1) for leaf in leaves])
    mask = parts.get("action_mask")
    return features if mask is None else Observation(features, action_mask=jnp.asarray(mask, bool).reshape(-1))
