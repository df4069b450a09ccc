"""The T-maze: a sign at the start says which way to turn at the end of a corridor. Bakker 2001."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment, spaces

from jaxrl.arguments import check_count
from jaxrl.types import Array

NORTH, EAST, SOUTH, WEST = range(4)


class TMazeState(NamedTuple):
    """The number of steps in this episode, the position in the corridor, and whether north is the right turn."""

    time: Array
    position: Array
    north: Array


@struct.dataclass
class TMazeParams(environment.EnvParams):
    """The time limit, and the rewards of the right turn, the wrong turn and a step without progress."""

    max_steps_in_episode: int = 84
    right: float = 4.0
    wrong: float = -0.1
    idle: float = -0.1


class TMaze(environment.Environment[Any, Any]):
    """A corridor of N steps to the east, then a junction: the sign at the start tells whether to turn north or south.

    Bakker 2001, "Reinforcement learning with long short-term memory", section 4.1, with its observations (011 or 110 at
    the start, 101 in the corridor, 010 at the junction), its four moves and its rewards: 4 for the right turn and -0.1
    for the wrong one, both of which end the task, and -0.1 for standing still.

    Two rules differ, so that the difficulty is memory and not navigation: a step back costs as much as standing still,
    and the sign is visible at the first step only, not on a return to the start. The best return is 4. A policy without
    memory turns the right way half of the time, so its best mean return is 1.95.

    Args:
      length: N, at least 1, the number of steps from the sign to the junction.
    """

    def __init__(self, length: int = 20) -> None:
        super().__init__()
        check_count("length", length)
        self.length = length

    @property
    def name(self) -> str:
        """The name that ``jaxrl.make`` takes."""
        return f"TMaze-{self.length}"

    @property
    def default_params(self) -> TMazeParams:
        """A time limit of four times the shortest path."""
        return TMazeParams(max_steps_in_episode=4 * (self.length + 1))

    @property
    def num_actions(self) -> int:
        """North, east, south, west."""
        return 4

    def action_space(self, params: Any = None) -> spaces.Discrete:
        """North, east, south, west."""
        return spaces.Discrete(4)

    def observation_space(self, params: Any = None) -> spaces.Box:
        """Three bits."""
        return spaces.Box(0, 1, (3,), jnp.float32)

    def get_obs(self, state: TMazeState, params: Any = None, key: Any = None) -> Array:
        """The observation of a state."""
        sign = jnp.where(state.north, jnp.float32([0, 1, 1]), jnp.float32([1, 1, 0]))
        place = jnp.where(state.position == self.length, jnp.float32([0, 1, 0]), jnp.float32([1, 0, 1]))
        return jnp.where(state.time == 0, sign, place)

    def reset_env(self, key: Array, params: Any) -> tuple[Array, TMazeState]:
        """Draws the sign."""
        state = TMazeState(jnp.int32(0), jnp.int32(0), jax.random.bernoulli(key))
        return self.get_obs(state), state

    def step_env(
        self, key: Array, state: TMazeState, action: Array, params: TMazeParams
    ) -> tuple[Array, TMazeState, Array, Array, dict[Any, Any]]:
        """Moves or turns; gymnax's ``step`` adds the time limit and the reset."""
        turns = (state.position == self.length) & ((action == NORTH) | (action == SOUTH))
        right = turns & ((action == NORTH) == state.north)
        step = (action == EAST).astype(jnp.int32) - (action == WEST).astype(jnp.int32)
        position = jnp.clip(state.position + step, 0, self.length)
        walked = jnp.where(position > state.position, 0.0, params.idle).astype(jnp.float32)
        reward = jnp.where(turns, jnp.where(right, params.right, params.wrong), walked)
        state = TMazeState(state.time + 1, position, state.north)
        info = {"success": right, "discount": 1.0 - turns.astype(jnp.float32)}
        return self.get_obs(state), state, reward, turns, info
