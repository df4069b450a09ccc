"""Symmetries of a board: how they transform positions and moves.

Legend: N positions, H x W squares, C planes, A actions, K symmetries.
"""

from __future__ import annotations

from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from jaxrl.types import Array


class Symmetries(Protocol):
    """Applies a random symmetry to every position."""

    def __call__(
        self, key: Array, features: Array, mask: Array | None, policy: Array
    ) -> tuple[Array, Array | None, Array]:
        """Draws a symmetry for each position.

        Args:
          key: consumed.
          features: ``[N, H, W, C]``.
          mask: ``[N, A]`` legal actions, or None.
          policy: ``[N, A]``.

        Returns:
          The three of them, changed alike.
        """
        ...


def board_symmetries(height: int, width: int, *, rotations: bool, columns: bool = False, passes: int = 0) -> Symmetries:
    """The symmetries of a rectangular board whose rules have no preferred direction.

    Args:
      height, width: H and W.
      rotations: all eight of a square; else the mirror image, left for right, alone.
      columns: an action is a column; else it is a square, counted row by row.
      passes: number of further actions that symmetries leave alone, such as a pass.

    Raises:
      ValueError: rotations of what is no square, or of columns.
    """
    if rotations and (height != width or columns):
        raise ValueError(f"rotations: got True for a board {height} x {width}, wants a square, and squares as actions")
    squares = np.arange(height * width).reshape(height, width)
    turned = [np.rot90(squares, turns) for turns in range(4)] if rotations else [squares]
    views = [view for board in turned for view in (board, np.fliplr(board))]
    on_board: list[NDArray[np.int64]] = [view[0] if columns else view.reshape(-1) for view in views]
    num_moves = on_board[0].size
    stay = np.arange(num_moves, num_moves + passes)
    # Entry i is the index that entry i of the result is taken from.
    from_square = np.stack([view.reshape(-1) for view in views])
    from_action = np.stack([np.concatenate([moves, stay]) for moves in on_board])

    def seen(key: Array, features: Array, mask: Array | None, policy: Array) -> tuple[Array, Array | None, Array]:
        num = features.shape[0]
        which = jax.random.randint(key, (num,), 0, len(views))
        square, action = jnp.asarray(from_square)[which], jnp.asarray(from_action)[which]
        flat = features.reshape(num, height * width, -1)
        features = jnp.take_along_axis(flat, square[:, :, None], axis=1).reshape(features.shape)
        mask = None if mask is None else jnp.take_along_axis(mask, action, axis=1)
        return features, mask, jnp.take_along_axis(policy, action, axis=1)

    return seen
