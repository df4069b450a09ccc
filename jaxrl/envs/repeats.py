"""``repeat`` gives the start of an episode several times in a row, so that answers to one prompt can be compared."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrl.arguments import check_count
from jaxrl.envs.wrappers import StepResult, Wrapper, select
from jaxrl.types import Array, PyTree


class RepeatState(NamedTuple):
    """The state of ``repeat``.

    Attributes:
      env_state: of the wrapped environment.
      first: its observation and state at the start of the episode.
      episodes: int32, those that ended since this start was drawn.
    """

    env_state: PyTree
    first: tuple[Any, PyTree]
    episodes: Array


class _Repeat(Wrapper):
    def __init__(self, env: Any, times: int) -> None:
        super().__init__(env)
        self.times = times

    def inner_state(self, state: RepeatState) -> PyTree:
        return state.env_state

    def reset(self, key: Array, params: PyTree = None) -> tuple[Any, RepeatState]:
        observation, env_state = self.env.reset(key, self._given(params))
        return observation, RepeatState(env_state, (observation, env_state), jnp.zeros((), jnp.int32))

    def step(self, key: Array, state: RepeatState, action: Array, params: PyTree = None) -> StepResult:
        stepped = self.env.step(key, state.env_state, action, self._given(params))
        observation, env_state, reward, terminated, truncated, info = stepped
        done = terminated | truncated
        count = state.episodes + done.astype(jnp.int32)
        again = done & (count < self.times)
        fresh = done & ~again
        first = select(fresh, (observation, env_state), state.first)
        observation, env_state = select(again, state.first, (observation, env_state))
        new = RepeatState(env_state, first, jnp.where(fresh, 0, count))
        return observation, new, reward, terminated, truncated, info


def repeat(env: Any, times: int) -> Any:
    """The environment with each start of an episode given ``times`` times in a row.

    ``grpo`` and ``rloo`` compare answers to one prompt: a rollout of ``times`` steps has that many answers to each. The
    command line wraps the environment for them.

    Args:
      env: an environment; its steps draw new random numbers in each episode.
      times: the number of episodes from one start.

    Raises:
      TypeError, ValueError: ``times`` is no integer of at least 1.
    """
    check_count("times", times)
    return _Repeat(env, times)
