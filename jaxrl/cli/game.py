"""A game in progress on the host, move by move."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs import expose_state
from jaxrl.types import Agent, Array, PyTree, action_mask


class Game:
    """A board between two players, one of whom is an agent.

    Attributes:
      moves: the number of moves made so far.
      mover: 0 if the player who began is to move, else 1.
      observation: the mover's observation; after the game's end, that of the next game.
      over: whether the game is over.
      winner: 0 or 1; None if the game is drawn or not over.
    """

    def __init__(self, key: Array, env: Any, params: PyTree, agent: Agent, state: PyTree) -> None:
        env = expose_state(env)
        self._key = key
        self._step = jax.jit(lambda key, env_state, action: env.step(key, env_state, action, params))
        self._act = jax.jit(lambda key, observation: agent.act(key, state, observation, explore=False)[0])
        self.observation, self._env_state = jax.jit(lambda key: env.reset(key, params))(self._draw())
        self.moves, self.mover, self.over = 0, 0, False
        self.winner: int | None = None

    def legal(self) -> list[int]:
        """The legal moves."""
        mask = action_mask(self.observation)
        assert mask is not None
        return [] if self.over else np.flatnonzero(np.asarray(mask)).tolist()

    def think(self) -> int:
        """The action that the agent would take for the mover."""
        batch = jax.tree.map(lambda leaf: leaf[None], self.observation)
        return int(self._act(self._draw(), batch)[0])

    def move(self, action: int) -> None:
        """Makes a move for the mover."""
        stepped = self._step(self._draw(), self._env_state, jnp.int32(action))
        self.observation, self._env_state, reward, terminated, truncated, info = stepped
        self.moves += 1
        if terminated or truncated:
            # The environment has already set up a new board.
            self.observation, self.over = info["final_observation"], True
            gained = float(reward) if terminated else 0.0
            self.winner = self.mover if gained > 0 else 1 - self.mover if gained < 0 else None
        elif float(info["discount"]) < 0:
            self.mover = 1 - self.mover

    def _draw(self) -> Array:
        self._key, key = jax.random.split(self._key)
        return key
