"""Tic-tac-toe solved exactly, by its whole game tree.

A board is a tuple of nine: 1 the stones of the player to move, -1 the other's, 0 empty, row by row.
"""

from __future__ import annotations

from functools import cache

LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))
EMPTY = (0,) * 9

Board = tuple[int, ...]


def lost(board: Board) -> bool:
    """Whether the player who is not to move has three in a row."""
    return any(all(board[cell] == -1 for cell in line) for line in LINES)


def legal(board: Board) -> list[int]:
    """The moves of a board, none where the game is over."""
    return [] if lost(board) else [cell for cell, stone in enumerate(board) if stone == 0]


def play(board: Board, cell: int) -> Board:
    """The board after a move, seen by the other player."""
    return tuple(-1 if index == cell else -stone for index, stone in enumerate(board))


def winning(board: Board) -> list[int]:
    """The moves that win at once."""
    return [cell for cell in legal(board) if lost(play(board, cell))]


def blocking(board: Board) -> list[int]:
    """Where the other player threatens to win at once, the moves after which that is over; else none.

    Where there are two such threats and no win, no move is.
    """
    turned = tuple(-stone for stone in board)
    return [cell for cell in legal(board) if not winning(play(board, cell))] if winning(turned) else []


@cache
def outcome(board: Board) -> int:
    """1, 0 or -1: what the game ends in for the player to move, when both play as well as can be."""
    if lost(board):
        return -1
    return max((-outcome(play(board, cell)) for cell in legal(board)), default=0)


def outcomes(board: Board) -> dict[int, int]:
    """What every legal move leads to, for the player to move."""
    return {cell: -outcome(play(board, cell)) for cell in legal(board)}


def positions() -> dict[Board, list[int]]:
    """Every board of the game where it goes on, with one line of play that leads there."""
    found: dict[Board, list[int]] = {EMPTY: []}
    layer = [EMPTY]
    while layer:
        after = {play(board, cell): [*found[board], cell] for board in layer for cell in legal(board)}
        layer = [board for board in after if legal(board)]
        found |= {board: after[board] for board in layer}
    return found
