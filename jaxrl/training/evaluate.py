"""Evaluation: the returns and lengths of whole episodes."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.arguments import check_count, check_key
from jaxrl.envs.abstract import success_of
from jaxrl.ops import across
from jaxrl.rollout import reset, step
from jaxrl.training.loop import TrainState, ends_in_success
from jaxrl.types import Agent, Array, PyTree


class Episodes(NamedTuple):
    """Evaluated episodes.

    Attributes:
      returns: ``[num_episodes]`` the undiscounted sum of rewards.
      lengths: ``[num_episodes]`` int32.
      finished: ``[num_episodes]`` bool; False if ``max_steps`` stopped the episode.
      success: ``[num_episodes]`` bool, whether the last step is at the goal; None without goals.
    """

    returns: Array
    lengths: Array
    finished: Array
    success: Array | None = None


def episode_limit(params: Any) -> int | None:
    """The time limit that an environment's parameters declare, or None."""
    limit = getattr(params, "max_steps_in_episode", None)
    return None if limit is None or isinstance(limit, jax.core.Tracer) else int(limit)


def evaluate(
    key: Array,
    agent: Agent,
    state: PyTree,
    env: Any,
    params: Any,
    *,
    num_episodes: int = 128,
    max_steps: int | None = None,
    explore: bool = False,
) -> Episodes:
    """Plays whole episodes side by side, one in each of ``num_episodes`` fresh environments.

    Args:
      key: consumed; not the training key.
      agent, state: the agent and its state, which is not changed, its normaliser included.
      env, params: a gymnax environment and its parameters.
      num_episodes: the number of episodes.
      max_steps: the number of steps after which an episode is stopped; None takes the environment's own time limit.
      explore: True samples the policy; False takes its mode.

    Raises:
      TypeError: ``key`` is not a PRNG key, or the state is that of a training, whose field ``agent`` is meant.
      ValueError: counts below 1, or no ``max_steps`` for an environment without a time limit.
    """
    check_key(key)
    if isinstance(state, TrainState):
        raise TypeError("state: got a TrainState, must be the state of the agent in it: state.agent")
    check_count("num_episodes", num_episodes)
    limit = episode_limit(params) if max_steps is None else max_steps
    if limit is None:
        raise ValueError(
            "max_steps: got None, and params declare no max_steps_in_episode that is known outside of a trace; "
            "give max_steps"
        )
    check_count("max_steps", limit)
    reset_key, run_key = jax.random.split(key)
    observation, env_state = reset(reset_key, env, params, num_episodes)
    flags = jnp.zeros(num_episodes, bool)
    start = Episodes(
        returns=jnp.zeros(num_episodes),
        lengths=jnp.zeros(num_episodes, jnp.int32),
        finished=flags,
        success=None if success_of(env) is None else flags,
    )

    def going_on(carry: Any) -> Array:
        time, _, _, episodes = carry
        return (time < limit) & across.any_vmapped(~episodes.finished.all())

    def body(carry: Any) -> Any:
        time, env_state, observation, episodes = carry
        keys = jax.random.split(jax.random.fold_in(run_key, time), 1 + num_episodes)
        env_state, observation, transition = step(keys, agent, state, env, params, env_state, observation, explore)
        alive = ~episodes.finished
        arrived = ends_in_success(env, transition)
        episodes = Episodes(
            returns=episodes.returns + jnp.where(alive, transition.reward, 0.0),
            lengths=episodes.lengths + alive,
            finished=episodes.finished | transition.terminated | transition.truncated,
            success=None if arrived is None else jnp.where(alive, arrived, episodes.success),
        )
        return time + 1, env_state, observation, episodes

    carry = jax.tree.map(jnp.asarray, (jnp.zeros((), jnp.int32), env_state, observation, start))
    return jax.lax.while_loop(going_on, body, carry)[-1]
