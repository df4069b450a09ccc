"""Symmetries of a board, applied to positions and moves.

Legend of shapes: N positions, H x W squares, C planes, A actions, K symmetries.
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
          mask: ``[N, A]``, the legal actions, or None.
          policy: ``[N, A]``.

        Returns:
          The three arrays, transformed alike.
        """
        ...


def board_symmetries(height: int, width: int, *, rotations: bool, columns: bool = False, passes: int = 0) -> Symmetries:
    """The symmetries of a rectangular board whose rules have no preferred direction.

    Args:
      height, width: H and W.
      rotations: True for all eight symmetries of a square; False for the left-right mirror image only.
      columns: whether an action is a column; else it is a square, numbered row by row.
      passes: the number of further actions that symmetries leave unchanged, such as a pass.

    Raises:
      ValueError: ``rotations`` with a board that is not square, or with ``columns``.
    """
    if rotations and (height != width or columns):
        raise ValueError(
            f"rotations: got True for a {height} x {width} board, must be a square one with squares as actions"
        )
    squares = np.arange(height * width).reshape(height, width)
    turned = [np.rot90(squares, turns) for turns in range(4)] if rotations else [squares]
    views = [view for board in turned for view in (board, np.fliplr(board))]
    on_board: list[NDArray[np.int64]] = [view[0] if columns else view.reshape(-1) for view in views]
    num_moves = on_board[0].size
    stay = np.arange(num_moves, num_moves + passes)
    # Entry i is the source index of entry i of the result.
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
