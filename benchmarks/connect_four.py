"""Connect four solved exactly by alpha-beta on bitboards, and random positions to test agents on.

A board is two integers of 49 bits, 7 a column from the bottom up and the seventh always empty: ``mine``, the stones of
the player to move, and ``both``. The method is described in Allis 1988, "A knowledge-based approach of
connect-four", Tromp's bitboards (https://tromp.github.io/c4/c4.html) and Pons's tutorial
(http://blog.gamesolver.org); ``outcome`` asks who wins, not in how many moves, which is all that a wrong move needs.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

COLUMNS, ROWS = 7, 6
WIN, DRAW, LOSS = 1, 0, -1
ILLEGAL = -2

_H = ROWS + 1
_BOTTOM = sum(1 << (_H * column) for column in range(COLUMNS))
_COLUMN = (1 << ROWS) - 1
_BOARD = _BOTTOM * _COLUMN
# Central columns take part in more lines, so they are tried first.
_ORDER = np.array([3, 2, 4, 1, 5, 0, 6])
_SLOTS = (1 << 22) - 3  # a prime


class Board(NamedTuple):
    """A position, seen by the player to move."""

    mine: int = 0
    both: int = 0

    def play(self, column: int) -> Board:
        """The position after a stone, seen by the other player."""
        return Board(self.mine ^ self.both, self.both | (self.both + (1 << (_H * column))))

    def legal(self) -> list[int]:
        """The columns that are not full."""
        return [column for column in range(COLUMNS) if not self.both & (1 << (_H * column + ROWS - 1))]

    def over(self) -> bool:
        """Whether the game is over: the player that has just moved has won, or the board is full."""
        return bool(_has_four(self.mine ^ self.both)) or self.both == _BOARD


def board_of(moves: list[int]) -> Board:
    """The position after a line of play.

    Raises:
      ValueError: a move into a full column or after the end.
    """
    board = Board()
    for column in moves:
        if column not in board.legal() or board.over():
            raise ValueError(f"moves: got {moves}, and {column} is illegal after {board.both.bit_count()} stones")
        board = board.play(column)
    return board


@numba.njit
def _has_four(stones):
    for shift in (1, _H - 1, _H, _H + 1):
        pairs = stones & (stones >> shift)
        if pairs & (pairs >> (2 * shift)):
            return True
    return False


@numba.njit
def _winning_cells(stones, both):
    """The empty cells that would complete four of ``stones``, reachable now or later."""
    cells = (stones << 1) & (stones << 2) & (stones << 3)  # upright
    for shift in (_H - 1, _H, _H + 1):
        pair = (stones << shift) & (stones << 2 * shift)
        cells |= pair & (stones << 3 * shift)
        cells |= pair & (stones >> shift)
        pair = (stones >> shift) & (stones >> 2 * shift)
        cells |= pair & (stones << shift)
        cells |= pair & (stones >> 3 * shift)
    return cells & (_BOARD ^ both)


@numba.njit
def _safe_cells(mine, both):
    """The cells that can be taken without losing to the next move; no win at once is looked for."""
    playable = (both + _BOTTOM) & _BOARD
    threats = _winning_cells(mine ^ both, both)
    forced = playable & threats
    if forced:
        if forced & (forced - 1):
            return 0  # two threats, one stone
        playable = forced
    return playable & ~(threats >> 1)  # not below a cell where the other one wins


@numba.njit
def _count(bits):
    count = 0
    while bits:
        bits &= bits - 1
        count += 1
    return count


@numba.njit
def _wins(mine, both, draws_win, known):
    """1 where the player to move wins, draws counting for that player where ``draws_win`` is 1; else 0.

    This is alpha-beta with an empty window: is the outcome at least 0, or at least 1? The player to move has no win at
    once; that is for the caller to see.
    """
    safe = _safe_cells(mine, both)
    if both == _BOARD or (safe and _count(both) >= COLUMNS * ROWS - 2):
        return draws_win  # nobody wins with the last two stones: neither has a cell where they would
    if not safe:
        return 0
    # The sum marks the top of every column, so no two boards share it, and none is 0, which is an empty slot.
    question = (mine + both + _BOTTOM) << 1 | draws_win
    slot = question % _SLOTS
    if known[slot] >> 1 == question:
        return known[slot] & 1
    cells, scores, count = np.empty(COLUMNS, np.int64), np.empty(COLUMNS, np.int64), 0
    for column in _ORDER:
        cell = safe & (_COLUMN << (_H * column))
        if not cell:
            continue
        # Most winning cells first, central columns first among equals.
        score, place = _count(_winning_cells(mine | cell, both)), count
        while place > 0 and scores[place - 1] < score:
            cells[place], scores[place] = cells[place - 1], scores[place - 1]
            place -= 1
        cells[place], scores[place] = cell, score
        count += 1
    answer = 0
    for index in range(count):
        # What is safe leaves the other one no win at once.
        if not _wins(mine ^ both, both | cells[index], 1 - draws_win, known):
            answer = 1
            break
    known[slot] = question << 1 | answer
    return answer


class Solver:
    """Exact outcomes of positions, with a table of results that all searches share."""

    def __init__(self) -> None:
        self._known = np.zeros(_SLOTS, np.int64)

    def outcome(self, board: Board) -> int:
        """``WIN``, ``DRAW`` or ``LOSS`` of the player to move, who may not have lost already."""
        mine, both = board
        if both == _BOARD:
            return DRAW
        if _winning_cells(mine, both) & (both + _BOTTOM):
            return WIN
        if _wins(mine, both, 0, self._known):
            return WIN
        return DRAW if _wins(mine, both, 1, self._known) else LOSS

    def outcomes(self, board: Board) -> list[int]:
        """The outcome of every column for the player to move, ``ILLEGAL`` where it is full."""
        found = [ILLEGAL] * COLUMNS
        for column in board.legal():
            after = board.play(column)
            found[column] = WIN if _has_four(after.mine ^ after.both) else -self.outcome(after)
        return found


def random_lines(count: int, seed: int, least: int = 14) -> list[list[int]]:
    """Lines of play that lead to ``count`` different positions where the game goes on.

    Games of uniformly random legal moves, to their ends; of each game one position is taken, uniformly of those with at
    least ``least`` stones whose game isn't over. Games that end sooner have none.

    Args:
      count: how many positions.
      seed: of NumPy's default generator.
      least: stones on the board, at least.
    """
    rng = np.random.default_rng(seed)
    lines: dict[Board, list[int]] = {}
    while len(lines) < count:
        board, moves = Board(), []
        while not board.over():
            moves.append(int(rng.choice(board.legal())))
            board = board.play(moves[-1])
        if len(moves) > least:
            line = moves[: int(rng.integers(least, len(moves)))]
            lines.setdefault(board_of(line), line)
    return list(lines.values())
