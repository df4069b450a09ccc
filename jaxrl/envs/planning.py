"""What planners need of an environment: its state in the observation, and its ``step`` as a model to search in."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrl.envs.wrappers import StepResult, Wrapper, layers
from jaxrl.types import Array, Observation, PyTree, Remembered, memory


class _ExposeState(Wrapper):
    def reset(self, key: Array, params: PyTree = None) -> tuple[Observation, PyTree]:
        observation, state = self.env.reset(key, self._given(params))
        return _exposed(observation, state), state

    def step(self, key: Array, state: PyTree, action: Array, params: PyTree = None) -> StepResult:
        observation, state, *outcome, info = self.env.step(key, state, action, self._given(params))
        # Where the episode ended, the state is the next one's already, and nobody plans from a final observation.
        info = {**info, "final_observation": _exposed(info["final_observation"], state)}
        return _exposed(observation, state), state, *outcome, info


def _exposed(observation: Any, state: PyTree) -> Observation:
    seen = observation if isinstance(observation, Observation) else Observation(features=observation)
    return seen._replace(env_state=state)


def expose_state(env: Any) -> Wrapper:
    """Puts the simulator's state into ``Observation.env_state``, for planners; rollouts drop it before storage.

    The state is that of ``env``: the model to search in is ``simulator(env, params)`` of the same one. Inside of
    ``versus`` it is that of the game.

    Args:
      env: an environment.
    """
    return _ExposeState(env)


def num_players(env: Any) -> int:
    """2 for an environment in which two players move in turn, whatever wraps it; else 1."""
    while not hasattr(env, "num_players") and hasattr(env, "env"):
        env = env.env
    return int(getattr(env, "num_players", 1))


def refuse_memory(caller: str, given: Any) -> None:
    """Refuses what remembers in a game of two: players move in turn, and one memory would be fed back to both.

    Args:
      caller: who refuses, for the message.
      given: an observation of the game, or an action of a player.

    Raises:
      ValueError: an observation with a memory, or an action with one.
    """
    instead = "a game of two feeds back no memory of a player's own; show it the last steps, envs.window(env, k)"
    if isinstance(given, Remembered):
        raise ValueError(f"{caller}: got a player that remembers: {instead}")
    if memory(given) is not None:
        raise ValueError(f"{caller}: got an environment that feeds a memory back (envs.remember): {instead}")


class Simulated(NamedTuple):
    """What a simulator says of one step.

    Attributes:
      env_state: to step on from; that of a new episode where this one ended.
      observation: the true next one, final where the episode ended.
      reward: to the player that moved, float32.
      discount: the weight of the future before gamma: 0 where terminated, -1 where the mover changes, else 1.
      truncated: the episode was cut here though it has a future: the value of ``observation`` counts, but nothing can
        be searched behind it, since ``env_state`` belongs to another episode.
    """

    env_state: PyTree
    observation: Any
    reward: Array
    discount: Array
    truncated: Array


class Simulator:
    """``model(key, env_state, action) -> Simulated``, one state at a time: batches are the caller's ``vmap``.

    Attributes:
      num_players: 2 where two players move in turn, else 1.
    """

    def __init__(self, env: Any, params: PyTree) -> None:
        self._env, self._params = env, params
        self.num_players = num_players(env)

    def steps_taken(self, env_state: PyTree) -> Array:
        """The steps of its episode before a state, int32; 0 throughout for environments that don't count them."""
        for env, state in layers(self._env, env_state):
            if hasattr(env, "steps_taken"):
                return jnp.asarray(env.steps_taken(state), jnp.int32)
        return jnp.asarray(getattr(state, "time", 0), jnp.int32)

    def __call__(self, key: Array, env_state: PyTree, action: Array) -> Simulated:
        """One step from any state; a random environment draws its outcome from the key."""
        stepped = self._env.step(key, env_state, action, self._params)
        _, env_state, reward, terminated, truncated, info = stepped
        weight = jnp.asarray(info.get("discount", 1.0), jnp.float32)
        return Simulated(
            env_state=env_state,
            observation=info["final_observation"],
            reward=jnp.asarray(reward, jnp.float32),
            discount=jnp.where(terminated, 0.0, weight),
            truncated=jnp.asarray(truncated) & ~jnp.asarray(terminated),
        )


def simulator(env: Any, params: PyTree = None) -> Simulator:
    """The environment itself as a model for planners.

    A step resets where an episode ends. That is sound in a search where terminated, since the discount is 0 and what
    follows weighs nothing; where truncated the planner has to stop by itself, see ``Simulated.truncated``.

    Args:
      env: any environment.
      params: its parameters, ``env.default_params`` if None.
    """
    return Simulator(env, env.default_params if params is None else params)
