"""Evaluation: whole episodes, each return and each length."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.arguments import check_count, check_key
from jaxrl.rollout import reset, step
from jaxrl.training.loop import TrainState
from jaxrl.types import Agent, Array, PyTree


class Episodes(NamedTuple):
    """Evaluated episodes.

    Attributes:
      returns: ``[num_episodes]`` the undiscounted sum of rewards.
      lengths: ``[num_episodes]`` int32.
      finished: ``[num_episodes]`` bool; False where ``max_steps`` came first.
    """

    returns: Array
    lengths: Array
    finished: Array


def episode_limit(params: Any) -> int | None:
    """The time limit that an environment's parameters declare, or None."""
    limit = getattr(params, "max_steps_in_episode", None)
    return None if limit is None or isinstance(limit, jax.core.Tracer) else int(limit)


@jax.custom_batching.custom_vmap
def _any_member(flag: Array) -> Array:
    """Whether a flag holds for any member of a population under ``vmap``; alike for all of them.

    So a loop ends for all members at once: under a condition that differs between them, JAX can't call environments
    outside it, and selects every leaf of the state in every step.
    """
    return flag


@_any_member.def_vmap
def _any_of_them(axis_size: int, in_batched: list[bool], flag: Array) -> tuple[Array, bool]:
    return _any_member(flag.any(axis=0) if in_batched[0] else flag), False


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
      agent, state: who plays; the state, its normaliser included, stays as it is.
      env, params: a gymnax environment and its parameters.
      num_episodes: how many.
      max_steps: give an episode up after so many; None takes the environment's own time limit.
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
    start = Episodes(jnp.zeros(num_episodes), jnp.zeros(num_episodes, jnp.int32), jnp.zeros(num_episodes, bool))

    def going_on(carry: Any) -> Array:
        time, _, _, episodes = carry
        return (time < limit) & _any_member(~episodes.finished.all())

    def body(carry: Any) -> Any:
        time, env_state, observation, episodes = carry
        keys = jax.random.split(jax.random.fold_in(run_key, time), 1 + num_episodes)
        env_state, observation, transition = step(keys, agent, state, env, params, env_state, observation, explore)
        alive = ~episodes.finished
        episodes = Episodes(
            returns=episodes.returns + jnp.where(alive, transition.reward, 0.0),
            lengths=episodes.lengths + alive,
            finished=episodes.finished | transition.terminated | transition.truncated,
        )
        return time + 1, env_state, observation, episodes

    carry = jax.tree.map(jnp.asarray, (jnp.zeros((), jnp.int32), env_state, observation, start))
    return jax.lax.while_loop(going_on, body, carry)[-1]
