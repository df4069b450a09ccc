"""Two boxes to push onto two targets: Sokoban in a room of 5 x 5, made by playing backwards."""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from jaxrl.arguments import check_count
from jaxrl.types import Array

NORTH, EAST, SOUTH, WEST = range(4)

ROOM = 5
"""Rows and columns inside the outer wall. Sets of cells are 25 bits of a uint32, the north-west corner the lowest."""

CELLS = ROOM * ROOM
FULL = np.uint32(2**CELLS - 1)
NOT_WEST = np.uint32(sum(1 << i for i in range(CELLS) if i % ROOM != 0))
NOT_EAST = np.uint32(sum(1 << i for i in range(CELLS) if i % ROOM != ROOM - 1))
PAIRS = np.array([[1 << i, 1 << j] for i, j in combinations(range(CELLS), 2)], np.uint32)  # [300, 2]

WALL, TARGET, BOX, PLAYER = range(4)
"""The planes of an observation."""


class TwoBoxState(NamedTuple):
    """Steps taken in this episode, and four sets of cells, 25 bits each; the player's has one bit."""

    time: Array
    walls: Array
    targets: Array
    boxes: Array
    player: Array


@struct.dataclass
class TwoBoxParams(environment.EnvParams):
    """The time limit, and whether levels are held-out ones."""

    max_steps_in_episode: int = 50
    held_out: bool = False


def neighbours(cells: Array) -> Array:
    """The cells to the north, east, south and west: ``[...] -> [..., 4]``, 0 outside of the room."""
    return jnp.stack([cells >> ROOM, (cells & NOT_EAST) << 1, (cells << ROOM) & FULL, (cells & NOT_WEST) >> 1], axis=-1)


def reachable(start: Array, free: Array) -> Array:
    """The free cells within twelve steps of the start."""
    spread = lambda _, cells: (cells | jnp.bitwise_or.reduce(neighbours(cells), axis=-1)) & free  # noqa: E731
    return jax.lax.fori_loop(0, 12, spread, start)


def pulls(boxes: Any, walls: Array, reach: Array) -> tuple[Array, Array, Array]:
    """The pulls, which undo pushes: where box and player go, and whether they can, ``[..., 2, 4]`` each.

    Args:
      boxes: ``[..., 2]`` the two boxes.
      walls: ``[...]``.
      reach: ``[...]`` the cells where the player can be.
    """
    beside = neighbours(boxes)  # the box goes where the player stands, and the player one step back
    beyond = jnp.diagonal(neighbours(beside), axis1=-2, axis2=-1)
    taken = (walls | boxes[..., 0] | boxes[..., 1])[..., None, None]
    allowed = ((beside & reach[..., None, None] & ~taken) != 0) & (beyond != 0) & ((beyond & taken) == 0)
    return beside, beyond, allowed


def is_held_out(walls: Array, targets: Any) -> Array:
    """Whether levels with these walls and targets are held out: a quarter of them, by a hash (MurmurHash3's mixer)."""
    mixed = walls * np.uint32(0x9E3779B1) ^ targets * np.uint32(0x85EBCA77)
    mixed = (mixed ^ (mixed >> 16)) * np.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * np.uint32(0xC2B2AE35)
    return (mixed ^ (mixed >> 16)) >> 30 == 0


def unpacked(cells: Array) -> Array:
    """A set of cells as ``[25]`` bool."""
    return ((cells >> jnp.arange(CELLS, dtype=jnp.uint32)) & 1) == 1


class TwoBox(environment.Environment[Any, Any]):
    """Push two boxes onto two targets, in a room of 5 x 5 with walls inside and around it: planes of 7 x 7.

    The rules and the pay are those of Sokoban in Weber et al. 2017, arXiv:1707.06203: -0.1 a step, 1 for a box onto a
    target and -1 for one off it, 10 for both on targets, which terminates the episode. A box can be pushed, not pulled,
    and one at a time; a box in a corner stays there, so a mistake can be final. Moves are north, east, south, west. An
    observation has the planes wall, target, box, player, each 0 or 1.

    ``reset`` draws walls and targets, puts the boxes on the targets and plays backwards: it walks and pulls at random,
    and keeps the position with the boxes farthest from home. So each level can be solved. A hash of walls and targets
    says whether a level is held out (``held_out=True`` gives those, a quarter of all): no level is in both sets.

    Args:
      num_pulls: of the backwards play, at least 1; the more, the longer the solution.
    """

    def __init__(self, num_pulls: int = 12) -> None:
        super().__init__()
        check_count("num_pulls", num_pulls)
        self.num_pulls = num_pulls

    @property
    def name(self) -> str:
        """The name that ``jaxrl.make`` takes."""
        return "TwoBox"

    @property
    def default_params(self) -> TwoBoxParams:
        """A time limit of 50 steps, and levels to learn from."""
        return TwoBoxParams()

    @property
    def num_actions(self) -> int:
        """North, east, south, west."""
        return 4

    def action_space(self, params: Any = None) -> spaces.Discrete:
        """North, east, south, west."""
        return spaces.Discrete(4)

    def observation_space(self, params: Any = None) -> spaces.Box:
        """Four planes of bits."""
        return spaces.Box(0, 1, (ROOM + 2, ROOM + 2, 4), jnp.float32)

    def get_obs(self, state: TwoBoxState, params: Any = None, key: Any = None) -> Array:
        """The picture of a state."""
        planes = jnp.stack([unpacked(cells) for cells in state[1:]], axis=-1).reshape(ROOM, ROOM, 4)
        planes = jnp.pad(planes.astype(jnp.float32), ((1, 1), (1, 1), (0, 0)))
        outside = np.pad(np.zeros((ROOM, ROOM), np.float32), 1, constant_values=1.0)
        return planes.at[..., WALL].add(outside)

    def reset_env(self, key: Array, params: TwoBoxParams) -> tuple[Array, TwoBoxState]:
        """Makes a level by playing backwards from its solution."""
        wall_key, target_key, pull_key, player_key = jax.random.split(key, 4)
        cells = jnp.uint32(1) << jnp.arange(CELLS, dtype=jnp.uint32)
        walls = jnp.sum(jnp.where(jax.random.bernoulli(wall_key, 0.15, (CELLS,)), cells, 0), dtype=jnp.uint32)

        # Targets: any two free cells of the asked set from where a box can be pulled.
        both = PAIRS[:, 0] | PAIRS[:, 1]
        can_pull = pulls(PAIRS, jnp.broadcast_to(walls, both.shape), jnp.broadcast_to(FULL, both.shape))[2].any((1, 2))
        fitting = can_pull & (both & walls == 0) & (is_held_out(walls, both) == params.held_out)
        home = jnp.asarray(PAIRS)[_choice(jax.random.uniform(target_key, both.shape), fitting)]

        def pull(carry: Any, preference: Array) -> tuple[Any, None]:
            boxes, reach, distance, best = carry
            beside, beyond, allowed = pulls(boxes, walls, reach)
            chosen = _choice(preference, allowed.ravel())
            box, possible = chosen // 4, allowed.any()
            boxes = boxes.at[box].set(jnp.where(possible, beside.ravel()[chosen], boxes[box]))
            free = FULL & ~(walls | boxes[0] | boxes[1])
            reach = jnp.where(possible, reachable(beyond.ravel()[chosen], free), reach)
            new_distance = _distance(boxes, home)
            farther = possible & (new_distance >= distance)
            best = jax.tree.map(lambda new, old: jnp.where(farther, new, old), (boxes, reach), best)
            return (boxes, reach, jnp.maximum(new_distance, distance), best), None

        start = (home, FULL & ~(walls | home[0] | home[1]))
        preferences = jax.random.uniform(pull_key, (self.num_pulls, 8))
        _, _, _, (boxes, reach) = jax.lax.scan(pull, (*start, jnp.float32(1.0), start), preferences)[0]
        player = cells[_choice(jax.random.uniform(player_key, (CELLS,)), unpacked(reach))]
        state = TwoBoxState(jnp.int32(0), walls, home[0] | home[1], boxes[0] | boxes[1], player)
        return self.get_obs(state), state

    def step_env(
        self, key: Array, state: TwoBoxState, action: Array, params: TwoBoxParams
    ) -> tuple[Array, TwoBoxState, Array, Array, dict[Any, Any]]:
        """Walks or pushes; gymnax's ``step`` adds the time limit and the reset."""
        ahead = neighbours(state.player)[action]
        beyond = neighbours(ahead)[action]
        pushes = (ahead & state.boxes) != 0
        stuck = (beyond == 0) | ((beyond & (state.walls | state.boxes)) != 0)
        moves = (ahead != 0) & ((ahead & state.walls) == 0) & ~(pushes & stuck)
        boxes = jnp.where(moves & pushes, state.boxes ^ ahead ^ beyond, state.boxes)
        player = jnp.where(moves, ahead, state.player)
        arrived = _count(boxes & state.targets) - _count(state.boxes & state.targets)
        solved = boxes == state.targets
        reward = -0.1 + arrived + jnp.where(solved, 10.0, 0.0)
        state = TwoBoxState(state.time + 1, state.walls, state.targets, boxes, player)
        info = {"success": solved, "discount": 1.0 - solved.astype(jnp.float32)}
        return self.get_obs(state), state, reward.astype(jnp.float32), solved, info

    def text(self, state: TwoBoxState) -> str:
        """A state in the usual letters: "#" wall, "." target, "$" box, "*" box on target, "@" and "+" player."""
        planes = np.asarray(self.get_obs(state)).astype(int)
        letters = np.array([" ", ".", "$", "*", "@", "+"])
        cell = np.where(planes[..., WALL] == 1, "#", letters[planes[..., TARGET] + planes[..., BOX:] @ [2, 4]])
        return "\n".join("".join(row) for row in cell)

    def picture(self, state: TwoBoxState) -> np.ndarray:
        """A state as ``[56, 56, 3]`` uint8, 8 x 8 pixels a cell."""
        planes = np.asarray(self.get_obs(state)).astype(bool)
        shapes = ((WALL, 0, (90, 90, 100)), (TARGET, 3, (220, 60, 60)), (BOX, 1, (200, 150, 80)))
        drawn = np.full((8 * (ROOM + 2), 8 * (ROOM + 2), 3), 245, np.uint8)
        for row, column in np.ndindex(planes.shape[:2]):
            tile = drawn[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
            for plane, margin, color in (*shapes, (PLAYER, 2, (60, 140, 90))):
                if planes[row, column, plane]:
                    tile[margin : 8 - margin, margin : 8 - margin] = color
            if planes[row, column, TARGET] and planes[row, column, BOX]:
                tile[3:5, 3:5] = (220, 60, 60)
        return drawn


def _choice(preference: Array, allowed: Array) -> Array:
    """The index of the highest preference, which is at least 0, among those allowed."""
    return jnp.argmax(jnp.where(allowed, preference, -1.0))


def _count(cells: Array) -> Array:
    return jax.lax.population_count(cells).astype(jnp.float32)


def _distance(boxes: Array, home: Array) -> Array:
    """``(1 + d_1) (1 + d_2)``, d the steps from each box to its target; the nearer of the two ways to assign them."""
    index = lambda cell: jax.lax.population_count(cell - 1).astype(jnp.int32)  # noqa: E731
    here, there = index(jnp.stack([boxes, boxes])), index(jnp.stack([home, home[::-1]]))
    steps = abs(here // ROOM - there // ROOM) + abs(here % ROOM - there % ROOM)  # [2 assignments, 2 boxes]
    return jnp.min(jnp.prod(1.0 + steps.astype(jnp.float32), axis=-1))
