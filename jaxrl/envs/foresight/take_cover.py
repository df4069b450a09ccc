"""Take cover: fireballs fall on a player that lives as long as it gets out of their way. After VizDoom's task."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from jaxrl.arguments import check_count
from jaxrl.types import Array

LEFT, STAY, RIGHT = range(3)

SIZE = 16
"""Rows and columns of the image."""

REACH = 3
"""A fireball burns its own column and three to each side."""

EMPTY = -SIZE
"""The column of no fireball: it burns nothing."""

RELOAD = 2 * REACH + 1
"""Steps from one fireball to the next, at least; from any column they are enough to leave the next one's way."""


class TakeCoverState(NamedTuple):
    """Steps taken in this episode, the player's column, the steps until the next fireball may start, and fireballs.

    ``incoming[i]`` is the middle column of the fireball that lands in ``i + 1`` steps, or ``EMPTY``.
    """

    time: Array
    player: Array
    reload: Array
    incoming: Array


@struct.dataclass
class TakeCoverParams(environment.EnvParams):
    """The time limit, and the probability of a fireball at each step at which one may start."""

    max_steps_in_episode: int = 500
    rate: float = 0.2


class TakeCover(environment.Environment[Any, Any]):
    """A player on the bottom row of 16 x 16 pixels; fireballs seven columns wide fall on it. Each step alive pays 1.

    The task of VizDoom's Take Cover (Kempka et al. 2016, arXiv:1605.02097; Ha and Schmidhuber 2018, arXiv:1803.10122)
    in one small channel: the player is 1, fire 0.5. The episode terminates when a fireball lands on the player.

    Without a delay a fireball is seen from the top row down, a row a step, and lands 15 steps after it started. With
    ``cue_delay = k > 0`` it is seen for one step in the top row, which is the cue, then not at all, and again from k
    steps after the cue on, just before it lands: one step before from k = 6 on. From its middle four steps are needed
    to get away, so one has to remember the cue.

    Each column is hit by as many of the 22 middle columns that a fireball may have, some of them outside the image. So
    where to stand doesn't matter: whoever doesn't look lives as long as a random player, some 45 steps. There are at
    least seven steps between two landings, which are enough to get from any column out of the next one's way: whoever
    looks, and remembers, survives.

    Args:
      cue_delay: k, at least 0.
    """

    def __init__(self, cue_delay: int = 0) -> None:
        super().__init__()
        check_count("cue_delay", cue_delay, least=0)
        self.cue_delay = cue_delay
        self.flight = max(cue_delay + 1, RELOAD) if cue_delay else SIZE - 1
        until_landing = np.arange(self.flight) + 1
        age = self.flight - until_landing
        row = np.where(age == 0, 0, SIZE - 1 - until_landing)
        shown = (age == 0) | (age >= cue_delay)
        self._rows = (shown[:, None] & (row[:, None] == np.arange(SIZE))).astype(np.float32)  # [flight, SIZE]

    @property
    def name(self) -> str:
        """The name that ``jaxrl.make`` takes."""
        return f"TakeCover-{self.cue_delay}" if self.cue_delay else "TakeCover"

    @property
    def default_params(self) -> TakeCoverParams:
        """A time limit of 500 steps."""
        return TakeCoverParams()

    @property
    def num_actions(self) -> int:
        """Left, stay, right."""
        return 3

    def action_space(self, params: Any = None) -> spaces.Discrete:
        """Left, stay, right."""
        return spaces.Discrete(3)

    def observation_space(self, params: Any = None) -> spaces.Box:
        """One channel from 0 to 1."""
        return spaces.Box(0, 1, (SIZE, SIZE, 1), jnp.float32)

    def get_obs(self, state: TakeCoverState, params: Any = None, key: Any = None) -> Array:
        """The picture of a state."""
        columns = jnp.arange(SIZE)
        burning = (abs(columns[None, :] - state.incoming[:, None]) <= REACH).astype(jnp.float32)  # [flight, SIZE]
        fire = 0.5 * jnp.minimum(jnp.einsum("fr,fc->rc", self._rows, burning), 1.0)
        return fire.at[SIZE - 1].set((columns == state.player).astype(jnp.float32))[..., None]

    def reset_env(self, key: Array, params: Any) -> tuple[Array, TakeCoverState]:
        """Draws the player's column; nothing falls yet."""
        player = jax.random.randint(key, (), 0, SIZE, jnp.int32)
        state = TakeCoverState(jnp.int32(0), player, jnp.int32(0), jnp.full(self.flight, EMPTY, jnp.int32))
        return self.get_obs(state), state

    def step_env(
        self, key: Array, state: TakeCoverState, action: Array, params: TakeCoverParams
    ) -> tuple[Array, TakeCoverState, Array, Array, dict[Any, Any]]:
        """Moves, lets fall and throws; gymnax's ``step`` adds the time limit and the reset."""
        throw_key, column_key = jax.random.split(key)
        player = jnp.clip(state.player + action.astype(jnp.int32) - STAY, 0, SIZE - 1)
        hit = abs(state.incoming[0] - player) <= REACH
        throws = (state.reload == 0) & jax.random.bernoulli(throw_key, params.rate)
        column = jax.random.randint(column_key, (), -REACH, SIZE + REACH, jnp.int32)
        thrown = jnp.where(throws, column, EMPTY)
        reload = jnp.where(throws, RELOAD - 1, jnp.maximum(state.reload - 1, 0))
        state = TakeCoverState(state.time + 1, player, reload, jnp.append(state.incoming[1:], thrown))
        info = {"discount": 1.0 - hit.astype(jnp.float32)}
        return self.get_obs(state), state, jnp.float32(1.0), hit, info

    def text(self, state: TakeCoverState) -> str:
        """A state as 16 lines: fire is "o", the player "A"."""
        image = np.asarray(self.get_obs(state))[..., 0]
        return "\n".join("".join(" oA"[round(2 * value)] for value in row).rstrip() for row in image)

    def picture(self, state: TakeCoverState) -> np.ndarray:
        """A state as ``[16, 16, 3]`` uint8; what is hidden from the player is drawn dark."""
        image = np.asarray(self.get_obs(state))[..., 0]
        colors = np.array([[20, 20, 40], [255, 120, 30], [90, 220, 120]], np.uint8)
        drawn = colors[np.rint(2 * image).astype(int)]
        for index, column in enumerate(np.asarray(state.incoming)):
            row = SIZE - 2 - index
            covered = abs(np.arange(SIZE) - column) <= REACH
            if row >= 0:
                drawn[row, covered & (image[row] == 0.0)] = (70, 40, 40)
        return drawn
