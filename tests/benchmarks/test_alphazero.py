"""The judge of tic-tac-toe against policies that are known, and positions as agents see them."""

import functools

import jax
import numpy as np

from benchmarks import alphazero, connect_four, positions
from benchmarks import tic_tac_toe as game
from jaxrl import envs


def perfect(board):
    """A best move, at once where it wins."""
    return max(game.legal(board), key=lambda cell: (cell in game.winning(board), game.outcomes(board)[cell]))


@functools.cache
def play(first_is_perfect, board=game.EMPTY, to_move=True):
    """``(lines, lines that the perfect one lost)`` between it and somebody who tries everything, written apart."""
    if game.lost(board) or 0 not in board:
        return 1, int(game.lost(board) and to_move == first_is_perfect)
    cells = [perfect(board)] if to_move == first_is_perfect else [cell for cell in range(9) if not board[cell]]
    found = [play(first_is_perfect, game.play(board, cell), not to_move) for cell in cells]
    return sum(lines for lines, _ in found), sum(lost for _, lost in found)


def test_the_judge_finds_nothing_in_a_perfect_player():
    found = alphazero.judge({board: perfect(board) for board in game.positions()})
    assert (found.lost, found.wins_missed, found.blocks_missed, found.wrong) == ((0, 0), 0, 0, 0)
    assert 0 < found.idle <= found.lost_anyway, "where all is lost the best play need not block"
    assert found.lines == (play(True)[0], play(False)[0]) and play(True)[1] == play(False)[1] == 0
    assert found.positions == 4520 and found.wins > 1000 and found.blocks > 500


def test_the_judge_finds_every_single_mistake():
    policy = {board: perfect(board) for board in game.positions()}
    corner = game.play(game.EMPTY, 0)
    found = alphazero.judge({**policy, corner: 8})  # only the centre holds
    assert found.lost[0] == 0 and found.lost[1] > 0 and found.wrong == 1
    threat = (0, 0, 0, -1, -1, 0, 1, 0, 0)
    found = alphazero.judge({**policy, threat: 0})
    assert (found.wins_missed, found.blocks_missed, found.wrong) == (0, 1, 1)
    chance = (1, 1, 0, -1, -1, 0, 0, 0, 0)
    found = alphazero.judge({**policy, chance: 8})
    assert (found.wins_missed, found.blocks_missed) == (1, 0)
    assert alphazero.judge({**policy, game.EMPTY: 9}).lost[0] == 1, "what is illegal loses"


def test_agents_see_the_boards_that_lines_lead_to():
    env, params = envs.make("pgx/tic_tac_toe")
    lines = game.positions()
    seen = positions.observe(env, params, list(lines.values()))
    boards = np.array(list(lines))
    planes = np.asarray(seen.features).reshape(-1, 9, 2)
    np.testing.assert_array_equal(planes, np.stack([boards == 1, boards == -1], -1))
    np.testing.assert_array_equal(seen.action_mask, boards == 0)
    assert len(jax.tree.leaves(seen.env_state)[0]) == 4520


def test_wrong_moves_are_those_worse_than_the_best():
    lines = connect_four.random_lines(20, seed=3, least=30)
    outcomes = alphazero.exact_outcomes(lines)
    assert outcomes.shape == (20, 7) and not alphazero.wrong_moves(outcomes, outcomes.argmax(axis=1)).any()
    worst = np.where(outcomes == connect_four.ILLEGAL, 9, outcomes).argmin(axis=1)
    differs = outcomes.max(axis=1) > outcomes[np.arange(20), worst]
    np.testing.assert_array_equal(alphazero.wrong_moves(outcomes, worst), differs)
    assert differs.any() and not differs.all()
