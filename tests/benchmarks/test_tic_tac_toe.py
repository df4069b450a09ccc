"""The game tree against counts and outcomes that are known."""

from benchmarks import tic_tac_toe as game


def test_the_tree_has_the_known_size():
    """5478 boards can be reached; 958 of them are ends: 626 wins of the first player, 316 of the second, 16 draws."""
    positions = game.positions()
    ends = {game.play(board, cell) for board in positions for cell in game.legal(board)} - set(positions)
    assert (len(positions), len(ends)) == (4520, 958)
    wins = sum(game.lost(board) for board in ends)
    assert (wins, len(ends) - wins) == (942, 16)
    for board, line in positions.items():
        walked = game.EMPTY
        for cell in line:
            walked = game.play(walked, cell)
        assert walked == board


def test_outcomes_that_everybody_knows():
    assert game.outcomes(game.EMPTY) == dict.fromkeys(range(9), 0)
    corner = game.play(game.EMPTY, 0)
    assert game.outcomes(corner) == {4: 0} | {cell: -1 for cell in (1, 2, 3, 5, 6, 7, 8)}


def test_threats():
    board = (1, 1, 0, -1, -1, 0, 0, 0, 0)
    assert game.winning(board) == [2] and game.blocking(board) == [2, 5]
    assert game.blocking((0, 0, 0, -1, -1, 0, 1, 0, 0)) == [5]
    assert game.blocking((-1, -1, 0, -1, 1, 0, 0, 0, 1)) == [] and game.blocking(game.EMPTY) == []
