"""Boards in a terminal: draws stones on squares from a player's observations, and reads and writes moves.

A game is supported if its observations are planes ``[H, W, C]``, the first with the stones of the player to move and
the second with the opponent's, and if its actions are the squares or the columns, with at most one more, to pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from jaxrl.types import Discrete, Spec, features

Stones = NDArray[np.int8]
"""``[H, W]``: 0 empty, 1 the first player's, 2 the second's."""

STYLES = ("dim", "bold red", "bold blue")
GO_LETTERS = "ABCDEFGHJKLMNOPQRST"
"""The columns in Go, which leave out I."""


class NoBoard(ValueError):
    """The game can't be drawn as stones on squares."""


class Layout(NamedTuple):
    """The notation of a game's board and moves.

    Attributes:
      height, width: H and W.
      by_column: whether a move is a column; else it is a square.
      extra: the name of the action after the squares, "" if there is none.
      columns: the names of the columns, from the left.
      rows: the names of the rows, from the top; empty if a move is a column.
      symbols: the symbols of an empty square and of the two players' stones.
      slanted: whether every row begins half a square further right, as in Hex.
    """

    height: int
    width: int
    by_column: bool
    extra: str
    columns: Sequence[str]
    rows: Sequence[str]
    symbols: tuple[str, str, str]
    slanted: bool

    def name(self, action: int) -> str:
        """The name of an action."""
        if self.by_column:
            return self.columns[action]
        if action == self.height * self.width:
            return self.extra
        return f"{self.columns[action % self.width]}{self.rows[action // self.width]}"

    def action(self, text: str) -> int | None:
        """The action with this name; None if there is none."""
        return self._actions().get(text.strip().lower())

    def example(self) -> str:
        """An example of a move, for a prompt."""
        if self.by_column:
            return f"{self.columns[0]} to {self.columns[-1]}"
        last = f", or {self.extra}" if self.extra else ""
        return f"{self.name(0)} to {self.name(self.height * self.width - 1)}{last}"

    def _actions(self) -> dict[str, int]:
        size = self.width if self.by_column else self.height * self.width + bool(self.extra)
        return {self.name(action).lower(): action for action in range(size)}


def layout(name: str, spec: Spec, *, unicode: bool = True) -> Layout:
    """The layout of a game.

    Args:
      name: the name of the environment; Go has its own row and column names, other games have a1 at the upper left.
      spec: the spec of the environment.
      unicode: whether the terminal can show round stones.

    Raises:
      NoBoard: the observation has no planes of stones, or actions are neither squares nor columns.
    """
    shape = features(spec.observation).shape
    num_actions = spec.action.num_actions if isinstance(spec.action, Discrete) else 0
    if len(shape) != 3 or shape[-1] < 2 or num_actions not in (shape[1], shape[0] * shape[1], shape[0] * shape[1] + 1):
        raise NoBoard(f"{name} can't be drawn: it must be played with stones on squares or columns")
    height, width = shape[:2]
    go, by_column = "/go_" in name, num_actions == width
    numbers = [str(row + 1) for row in range(height)]
    letters = GO_LETTERS if go else "abcdefghijklmnopqrstuvwxyz"
    plain = not unicode or name.endswith("tic_tac_toe")
    return Layout(
        height,
        width,
        by_column,
        extra="" if num_actions <= height * width else "swap" if name.endswith("hex") else "pass",
        columns=[str(column + 1) for column in range(width)] if by_column else letters[:width],
        rows=[] if by_column else numbers[::-1] if go else numbers,
        symbols=("·" if unicode else ".", *(("X", "O") if plain else ("●", "○"))),
        slanted=name.endswith("hex"),
    )


def stones_of(layout: Layout, observation: Any, moves: int) -> Stones:
    """The stones ``[H, W]`` of an observation after a number of moves, with the players moving in turn.

    Args:
      layout: the layout of the board.
      observation: planes ``[H, W, C]``, or a window of them, ``[k, H W C + 1]`` (``envs.window``).
      moves: the number of moves made so far.
    """
    planes = np.asarray(features(observation))
    if planes.ndim == 2:
        planes = planes[-1, :-1].reshape(layout.height, layout.width, -1)
    mover, other = (1, 2) if moves % 2 == 0 else (2, 1)
    return np.where(planes[..., 0] > 0, mover, np.where(planes[..., 1] > 0, other, 0)).astype(np.int8)


def draw(layout: Layout, stones: Stones, before: Stones | None = None) -> Text:
    """The board as text, with the stones placed since ``before`` in brackets."""
    text = Text(no_wrap=True)
    margin = 1 + max((len(row) for row in layout.rows), default=0)
    header = " " * margin + "".join(f" {column} " for column in layout.columns)
    if not layout.by_column:
        text.append(f"{header}\n", style="dim")
    for y in range(layout.height):
        label = layout.rows[y] if layout.rows else ""
        text.append(" " * (y if layout.slanted else 0) + label.rjust(margin - 1) + " ", style="dim")
        for x in range(layout.width):
            stone = int(stones[y, x])
            new = before is not None and stone > 0 and before[y, x] == 0
            left, right = "()" if new else "  "
            text.append(left).append(layout.symbols[stone], style=STYLES[stone]).append(right)
        text.append("\n")
    if layout.by_column:
        text.append(f"{header}\n", style="dim")
    return text
