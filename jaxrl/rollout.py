"""Rollouts: an agent acts in environments, which gives a trajectory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import hoist
from jaxrl.envs.abstract import check_environment, check_reset, check_step, require_same
from jaxrl.ops import across
from jaxrl.types import Agent, Array, Observation, PyTree, Remembered, Transition, memory

__all__ = ["future_weight", "reset", "rollout", "step", "step_keys", "stored", "with_memory", "without_states"]


def reset(key: Array, env: Any, params: Any, num_envs: int) -> tuple[Any, PyTree]:
    """Resets ``num_envs`` copies of an environment: ``(observation [B, ...], env_state [B, ...])``.

    Raises:
      ProtocolError: ``env`` does not follow ``jaxrl.envs.protocol``.
    """
    check_environment(env, "reset", "step")
    env_reset = jax.vmap(lambda key, params: check_reset(env.reset(key, params)), in_axes=(0, None))
    return env_reset(jax.random.split(key, num_envs), params)


def stored(observation: Any) -> Any:
    """The observation as a trajectory stores it: without the simulator's state, which only planners read.

    The agent's memory is dropped too: ``update`` recomputes it from the memory of the first step, see ``with_memory``.
    """
    if not isinstance(observation, Observation):
        return observation
    return observation._replace(env_state=None, memory=None)


def without_states(trajectory: Transition) -> Transition:
    """The trajectory without the simulator's states, which ``with_states`` puts back for a reward model."""
    seen = trajectory.observation
    if not isinstance(seen, Observation) or seen.env_state is None:
        return trajectory
    return trajectory._replace(observation=seen._replace(env_state=None))


def with_memory(trajectory: Transition, observation: Any) -> Transition:
    """Adds the agent's memory at the first step to a trajectory, if there is one.

    Args:
      trajectory: with stored observations, ``[T, B, ...]``.
      observation: ``[B, ...]`` the first observation; its memory becomes ``[1, B, ...]``.
    """
    first = memory(observation)
    if first is None:
        return trajectory
    first = jax.tree.map(lambda x: x[None], first)
    return trajectory._replace(observation=trajectory.observation._replace(memory=first))


def future_weight(terminated: Array, info: Mapping[Any, Any]) -> Array:
    """``Transition.discount``: 0 where terminated, else ``info["discount"]`` if there is one, else 1."""
    return jnp.where(terminated, 0.0, jnp.asarray(info.get("discount", 1.0), jnp.float32))


def step(
    keys: Array, agent: Agent, state: PyTree, env: Any, params: Any, env_state: PyTree, observation: Any, explore: bool
) -> tuple[PyTree, Any, Transition]:
    """Acts and steps once in each of B environments.

    Args:
      keys: ``[1 + B]`` keys: one for acting, then one per environment.
      agent, state: the agent and its state.
      env, params, env_state, observation: the environment, states and observations ``[B, ...]``.
      explore: False for the greedy policy.

    Returns:
      ``(env_state, observation, transition)``, leaves ``[B, ...]``; the transition without the agent's memory.

    Raises:
      ProtocolError: shapes or types of the step's results do not follow the environment protocol.
    """
    action, extras = agent.act(keys[0], state, observation, explore=explore)

    def env_step(key: Array, state: PyTree, action: Any, params: Any, before: Any) -> Any:
        result = check_step(env.step(key, state, action, params))
        require_same("observation", before, result[0])
        require_same("final_observation", stored(before), stored(result[-1]["final_observation"]))
        require_same("state", state, result[1])
        return result

    stepped = jax.vmap(env_step, in_axes=(0, 0, 0, None, 0))(keys[1:], env_state, action, params, observation)
    next_observation, env_state, reward, terminated, truncated, info = stepped
    transition = Transition(
        observation=stored(observation),
        action=action.value if isinstance(action, Remembered) else action,
        reward=reward.astype(jnp.float32),
        discount=future_weight(terminated, info),
        terminated=terminated,
        truncated=truncated,
        next_observation=stored(info["final_observation"]),
        extras=extras,
    )
    return env_state, next_observation, transition


def step_keys(key: Array, length: int, num_envs: int) -> Array:
    """The keys ``[T, 1 + B]`` of a rollout, for ``step``.

    Where environments are split over devices (``ops.across``), each environment gets the same keys as on one device.
    Every device computes its own part: key i of a ``split`` by threefry is ``fold_in(key, i)``. Each device has its own
    key for acting, folded from the key of a run on one device.
    """
    if across.size() == 1:
        return jax.random.split(key, (length, 1 + num_envs))
    row = 1 + num_envs * across.size()
    first = 1 + num_envs * across.index()
    columns = jnp.concatenate([jnp.zeros(1, jnp.int32), first + jnp.arange(num_envs, dtype=jnp.int32)])
    numbers = row * jnp.arange(length, dtype=jnp.int32)[:, None] + columns[None]
    keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (None, 0))(key, numbers)
    return jnp.concatenate([jax.vmap(across.own)(keys[:, :1].reshape(keys.shape[0]))[:, None], keys[:, 1:]], axis=1)


def rollout(
    key: Array,
    agent: Agent,
    state: PyTree,
    env: Any,
    params: Any,
    env_state: PyTree,
    observation: Any,
    length: int,
    *,
    explore: bool = True,
) -> tuple[PyTree, Any, Transition]:
    """Acts ``length`` times in B environments, from their current states.

    Args:
      key: consumed; it is split into the keys of all steps in one call.
      agent, state: the agent and its state, which does not change.
      env, params: a gymnax environment and its parameters.
      env_state, observation: ``[B, ...]``, from ``reset`` or from the last rollout.
      length: T.
      explore: False for the greedy policy.

    Returns:
      ``(env_state, observation, trajectory)``; the trajectory's leaves are ``[T, B, ...]``, except for the agent's
      memory, which is stored for the first step only, ``[1, B, ...]``. A recipe that needs it at every step adds it to
      ``extras``.
    """
    num_envs = jax.tree.leaves(observation)[0].shape[0]
    first = observation

    def body(carry: tuple[PyTree, Any], keys: Array) -> tuple[tuple[PyTree, Any], Transition]:
        env_state, observation, transition = step(keys, agent, state, env, params, *carry, explore)
        return (env_state, observation), transition

    (env_state, observation), trajectory = hoist.scan(body, (env_state, observation), step_keys(key, length, num_envs))
    return env_state, observation, with_memory(trajectory, first)


def __dir__() -> list[str]:
    return sorted(__all__)
