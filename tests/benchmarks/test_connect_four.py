"""The solver against plain minimax on late positions, and against outcomes that others have published."""

import pytest

from benchmarks.connect_four import DRAW, ILLEGAL, LOSS, WIN, Board, Solver, board_of, random_lines


def won(columns, column):
    """Whether the topmost stone of a column completes four, on columns of 0s and 1s."""
    stones = {(x, y): who for x, stack in enumerate(columns) for y, who in enumerate(stack)}
    x, y = column, len(columns[column]) - 1
    for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1)):
        line = [stones.get((x + k * dx, y + k * dy)) == stones[x, y] for k in range(-3, 4)]
        if any(all(line[k : k + 4]) for k in range(4)):
            return True
    return False


def minimax(columns, who):
    """The outcome to ``who``, who is to move, and of every column, without any cleverness."""
    outcomes = []
    for column, stack in enumerate(columns):
        if len(stack) == 6:
            outcomes.append(ILLEGAL)
            continue
        stack.append(who)
        outcomes.append(WIN if won(columns, column) else -minimax(columns, 1 - who)[0])
        stack.pop()
    return max((x for x in outcomes if x != ILLEGAL), default=DRAW), outcomes


def stacks(line):
    columns = [[] for _ in range(7)]
    for number, column in enumerate(line):
        columns[column].append(number % 2)
    return columns


@pytest.fixture(scope="module")
def solver():
    return Solver()


def test_late_positions_are_solved_as_plain_minimax_does(solver):
    lines = random_lines(60, seed=5, least=33)
    found = [minimax(stacks(line), len(line) % 2) for line in lines]
    assert {outcome for outcome, _ in found} == {WIN, DRAW, LOSS}
    for line, (outcome, outcomes) in zip(lines, found, strict=True):
        board = board_of(line)
        assert (solver.outcome(board), solver.outcomes(board)) == (outcome, outcomes), line


@pytest.mark.parametrize(
    "line, outcome",
    [
        # Of http://blog.gamesolver.org/solving-connect-four/02-test-protocol/ and its test sets.
        ("4455", WIN),
        ("44455554221", LOSS),
        ("2252576253462244111563365343671351441", LOSS),
        ("7422341735647741166133573473242566", WIN),
        ("23163416124767223154467471272416755633", DRAW),
        ("24617524315172127", WIN),
        ("12514726155174536522772517671", LOSS),
    ],
)
def test_published_outcomes(line, outcome, solver):
    columns = [int(digit) - 1 for digit in line]
    assert solver.outcome(board_of(columns)) == outcome
    assert solver.outcome(board_of([6 - column for column in columns])) == outcome, "mirrored"


def test_a_line_has_to_be_legal():
    for line in ([0] * 7, [0, 1, 0, 1, 0, 1, 0, 1], [7]):
        with pytest.raises(ValueError, match="moves: got"):
            board_of(line)
    assert board_of([0, 1, 0, 1, 0, 1, 0]).over() and not Board().over()


def test_random_positions_are_different_undecided_and_late_enough():
    lines = random_lines(50, seed=1)
    assert lines == random_lines(50, seed=1) != random_lines(50, seed=2)
    boards = [board_of(line) for line in lines]
    assert len(set(boards)) == 50 and min(map(len, lines)) == 14
    assert not any(board.over() for board in boards)
    assert max(map(len, lines)) > 30
    assert all(len(line) == board.both.bit_count() for line, board in zip(lines, boards, strict=True))
    assert all(board.mine & board.both == board.mine for board in boards)
