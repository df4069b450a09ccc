"""An environment for planners: its state in the observation, and its ``step`` as a model."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.envs.wrappers import StepResult, Wrapper, layers
from jaxrl.types import Array, Model, Observation, PyTree, Remembered, Simulated, memory


class _ExposeState(Wrapper):
    def __init__(self, env: Any, innermost: bool) -> None:
        super().__init__(env)
        self._innermost = innermost

    def reset(self, key: Array, params: PyTree = None) -> tuple[Observation, PyTree]:
        observation, state = self.env.reset(key, self._given(params))
        return self._exposed(observation, state), state

    def step(self, key: Array, state: PyTree, action: Array, params: PyTree = None) -> StepResult:
        observation, state, *outcome, info = self.env.step(key, state, action, self._given(params))
        # At the end of an episode the state is already the next episode's, and no planner starts from a final
        # observation.
        info = {**info, "final_observation": self._exposed(info["final_observation"], state)}
        return self._exposed(observation, state), state, *outcome, info

    def _exposed(self, observation: Any, state: PyTree) -> Observation:
        seen = observation if isinstance(observation, Observation) else Observation(features=observation)
        if self._innermost:
            state = jax.tree.map(_without_keys, list(layers(self.env, state))[-1][1])
        return seen._replace(env_state=state)


def _without_keys(leaf: Any) -> Any:
    """The data of a typed PRNG key, which can be stored; any other leaf as it is."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def expose_state(env: Any, *, innermost: bool = False) -> Wrapper:
    """Puts the simulator's state into ``Observation.env_state`` for planners; rollouts drop it before storage.

    The state is that of ``env``, so plan with ``simulator(env, params)`` of the same ``env``. Inside of ``versus`` it
    is the state of the game.

    Args:
      env: an environment.
      innermost: expose the state of the innermost environment, which can be drawn, with the data of PRNG keys.
    """
    return _ExposeState(env, innermost)


def num_players(env: Any) -> int:
    """2 for an environment in which two players move in turn, including wrapped ones; else 1."""
    while not hasattr(env, "num_players") and hasattr(env, "env"):
        env = env.env
    return int(getattr(env, "num_players", 1))


def refuse_memory(caller: str, given: Any) -> None:
    """Refuses memory in a two-player game: players move in turn, and one memory would be fed back to both.

    Args:
      caller: the name of the caller, for the message.
      given: an observation of the game, or an action of a player.

    Raises:
      ValueError: the observation or the action has a memory.
    """
    instead = "show the players of a two-player game the last steps instead, by envs.window(env, k)"
    if isinstance(given, Remembered):
        raise ValueError(f"{caller}: got a player with a memory, must have none; {instead}")
    if memory(given) is not None:
        raise ValueError(f"{caller}: got an environment in envs.remember, must not feed a memory back; {instead}")


def steps_taken(env: Any, env_state: PyTree) -> Array:
    """The number of steps in the episode before a state, int32; 0 if the environment does not count them."""
    for layer, state in layers(env, env_state):
        if hasattr(layer, "steps_taken"):
            return jnp.asarray(layer.steps_taken(state), jnp.int32)
    return jnp.asarray(getattr(state, "time", 0), jnp.int32)


def simulator(env: Any, params: PyTree = None) -> Model:
    """The environment as a model; its parameters are ``()``.

    A step resets at the end of an episode. Where it terminated, the discount is 0 and the later steps have no weight.
    Where it was truncated, the planner has to stop, see ``types.Simulated`` and ``search.models``.

    Args:
      env: any environment.
      params: its parameters, ``env.default_params`` if None.
    """
    env_params = env.default_params if params is None else params

    def init(key: Array) -> PyTree:
        del key
        return ()

    def step(params: PyTree, key: Array, state: PyTree, action: Array) -> Simulated:
        del params
        _, state, reward, terminated, truncated, info = env.step(key, state, action, env_params)
        weight = jnp.asarray(info.get("discount", 1.0), jnp.float32)
        return Simulated(
            state=state,
            observation=info["final_observation"],
            reward=jnp.asarray(reward, jnp.float32),
            discount=jnp.where(terminated, 0.0, weight),
            truncated=jnp.asarray(truncated) & ~jnp.asarray(terminated),
        )

    return Model(init, step, num_players(env), partial(steps_taken, env))
