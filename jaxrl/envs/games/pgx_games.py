"""pgx's games in gymnax's protocol: "pgx/tic_tac_toe", "pgx/connect_four", "pgx/go_9x9" and others.

Koyamada et al. 2023, "Pgx: hardware-accelerated parallel game simulators for reinforcement learning".

pgx numbers the players and draws who begins. Here players have no numbers: an observation is that of the player to
move, a reward belongs to the player that moved, and ``info["discount"]`` is -1 where the other player moves next.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.envs.games.symmetries import Symmetries, board_symmetries
from jaxrl.envs.wrappers import StepResult, select
from jaxrl.types import Array, Discrete, Observation, PyTree

STEPS: dict[str, int] = {
    "2048": 10_000,
    "animal_shogi": 256,
    "backgammon": 2_000,
    "chess": 512,
    "connect_four": 42,
    "gardner_chess": 256,
    "go_19x19": 722,
    "go_9x9": 162,
    "hex": 122,
    "minatar-asterix": 1_000,
    "minatar-breakout": 1_000,
    "minatar-freeway": 1_000,
    "minatar-seaquest": 1_000,
    "minatar-space_invaders": 1_000,
    "othello": 128,
    "shogi": 512,
    "tic_tac_toe": 9,
}
"""The games, and the number of steps after which an episode is truncated.

The rules of a board game end it before. The limits of 2048 and backgammon are chosen here; MinAtar's is gymnax's.
"""

REFUSED: dict[str, str] = {
    "bridge_bidding": "four players",
    "kuhn_poker": "hidden cards, which a planner would see in the simulator's state",
    "leduc_holdem": "hidden cards, which a planner would see in the simulator's state",
    "sparrow_mahjong": "three players",
}
"""Games of pgx that are not supported: games for more than two players, without turns or with hidden information."""

POINTS = {"backgammon": 3.0}
"""The largest possible win if it is not 1; two-player rewards are divided by it."""


class NotInstalled(ImportError, ValueError):
    """A suite of environments is not installed."""


class PgxParams(NamedTuple):
    """Parameters of a game.

    Attributes:
      max_steps_in_episode: the number of moves, of both players together, after which an episode is truncated.
    """

    max_steps_in_episode: Any


def _symmetries(name: str) -> Symmetries | None:
    match name:
        case "tic_tac_toe":
            return board_symmetries(3, 3, rotations=True)
        case "connect_four":
            return board_symmetries(6, 7, rotations=False, columns=True)
        case "go_9x9" | "go_19x19" | "othello":
            size = {"go_9x9": 9, "go_19x19": 19, "othello": 8}[name]
            return board_symmetries(size, size, rotations=True, passes=1)
    return None


class PgxGame:
    """A game of pgx. Its state is pgx's, so pgx can draw it: ``state.save_svg("board.svg")``.

    Observations are ``Observation(features, action_mask)`` with pgx's features, ``[H, W, C]`` for a board.

    Attributes:
      name: the name with its prefix, as ``make`` takes it.
      num_players: 2, or 1 for 2048 and MinAtar.
      num_actions: A.
      symmetries: the symmetries of the board, see ``symmetries``; None if there are none.
    """

    def __init__(self, name: str) -> None:
        try:
            import pgx

            # pgx relies on rank promotion in places. Its modules make arrays when they are imported, which must not be
            # tracers if the first game is made inside of a trace.
            with jax.numpy_rank_promotion("allow"), jax.ensure_compile_time_eval():
                self._game: Any = pgx.make(name)
        except ImportError as error:
            raise NotInstalled(f'"pgx/{name}": pgx is not installed; pip install "jaxrl[games]"') from error
        self.name = f"pgx/{name}"
        self._points = POINTS.get(name, 1.0)
        self.default_params = PgxParams(STEPS[name])
        self.num_players = int(self._game.num_players)
        self.num_actions = int(self._game.num_actions)
        self.symmetries = _symmetries(name)

    def action_space(self, params: PyTree = None) -> Discrete:
        """The moves; every observation has a mask of the legal ones."""
        return Discrete(self.num_actions)

    def steps_taken(self, state: PyTree) -> Array:
        """The number of moves of the game so far, of both players together."""
        return state._step_count

    def reset(self, key: Array, params: PyTree = None) -> tuple[Observation, PyTree]:
        """Sets up the board."""
        # pgx relies on rank promotion in places.
        with jax.numpy_rank_promotion("allow"):
            state = jax.tree.map(_strong, self._game.init(key))
        return _seen(state), state

    def step(self, key: Array, state: PyTree, action: Array, params: PyTree = None) -> StepResult:
        """Makes a move, and sets up a new board if the move ended the game."""
        params = self.default_params if params is None else params
        step_key, reset_key = jax.random.split(key)
        with jax.numpy_rank_promotion("allow"):
            stepped = self._game.step(state, action, step_key)
        # The mover is known before the step; afterwards pgx's current player is the other one, also at a game's end.
        reward = stepped.rewards[state.current_player] / self._points
        terminated = stepped.terminated
        truncated = (stepped.truncated | (self.steps_taken(stepped) >= params.max_steps_in_episode)) & ~terminated
        changed = stepped.current_player != state.current_player
        discount = jnp.where(terminated, 0.0, jnp.where(changed, -1.0, 1.0))
        final = _seen(stepped)
        observation, state = select(terminated | truncated, self.reset(reset_key, params), (final, stepped))
        info = {"discount": discount, "final_observation": final}
        return observation, state, reward, terminated, truncated, info


def _seen(state: Any) -> Observation:
    return Observation(features=state.observation, action_mask=state.legal_action_mask)


def _strong(leaf: Any) -> Array:
    leaf = jnp.asarray(leaf)
    return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else jax.lax.convert_element_type(leaf, leaf.dtype)


def make(name: str) -> tuple[PgxGame, PgxParams]:
    """A game by its name without prefix, and its parameters.

    Raises:
      NotInstalled: pgx is not installed; the message says how to install it.
    """
    game = PgxGame(name)
    return game, game.default_params
