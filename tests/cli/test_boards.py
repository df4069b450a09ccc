"""Boards as people see them, and moves as they write them."""

import jax
import numpy as np
import pytest

from jaxrl import envs
from jaxrl.agents.players import random_player
from jaxrl.cli import boards, play
from jaxrl.cli.game import Game
from jaxrl.runs.config import RunConfig
from jaxrl.types import Discrete, Spec


def layout(name, **options):
    env, params = envs.make(name)
    return boards.layout(name, envs.spec(env, params), **options)


def open_table(name):
    env, params = envs.make(name)
    return Game(jax.random.key(0), env, params, random_player(envs.spec(env, params)), ())


@pytest.mark.parametrize(
    ("name", "first", "last", "extra", "example"),
    [
        ("pgx/tic_tac_toe", "a1", "c3", "", "a1 to c3"),
        ("pgx/connect_four", "1", "7", "", "1 to 7"),
        ("pgx/othello", "a1", "h8", "pass", "a1 to h8, or pass"),
        ("pgx/go_9x9", "A9", "J1", "pass", "A9 to J1, or pass"),
        ("pgx/go_19x19", "A19", "T1", "pass", "A19 to T1, or pass"),
        ("pgx/hex", "a1", "k11", "swap", "a1 to k11, or swap"),
    ],
)
def test_moves_have_names(name, first, last, extra, example):
    env, params = envs.make(name)
    found = layout(name)
    size = envs.spec(env, params).action.num_actions
    names = [found.name(action) for action in range(size)]
    assert names[0] == first and names[size - 1 - bool(extra)] == last and found.extra == extra
    assert len(set(names)) == size and [found.action(f" {name.upper()} ") for name in names] == list(range(size))
    assert found.action("z99") is None and found.example() == example


def test_games_without_stones_are_refused_by_name():
    chess = Spec(jax.ShapeDtypeStruct((8, 8, 119), np.bool_), Discrete(4672))
    with pytest.raises(boards.NoBoard, match="pgx/chess can't be drawn"):
        boards.layout("pgx/chess", chess)


def test_a_column_is_drawn_with_what_was_put_down_in_brackets():
    table, found = open_table("pgx/connect_four"), layout("pgx/connect_four")
    drawn, before = "", None
    for column in (3, 3, 4):
        table.move(column)
        stones = boards.stones_of(found, table.observation, table.moves)
        drawn, before = boards.draw(found, stones, before).plain, stones
    rows = drawn.splitlines()
    assert rows[-3:] == ["  ·  ·  ·  ○  ·  ·  · ", "  ·  ·  ·  ● (●) ·  · ", "  1  2  3  4  5  6  7 "]
    assert boards.draw(layout("pgx/connect_four", unicode=False), before).plain.splitlines()[-2].split() == list(
        "...XX.."
    )


def test_stones_belong_to_the_same_player_whoever_looks():
    """Othello, by its own rules: d3 turns d4 over."""
    table = open_table("pgx/othello")
    found = layout("pgx/othello")
    start = boards.stones_of(found, table.observation, 0)
    assert [start[3, 3], start[3, 4], start[4, 3], start[4, 4]] == [2, 1, 1, 2]
    table.move(layout("pgx/othello").action("d3"))
    after = boards.stones_of(found, table.observation, 1)
    assert [after[2, 3], after[3, 3]] == [1, 1] and table.mover == 1
    assert (after != start).sum() == 2
    text = boards.draw(layout("pgx/othello"), after, start).plain
    assert "3  ·  ·  · (●) ·  ·  ·  · " in text.splitlines()
    assert text.splitlines()[0] == "   a  b  c  d  e  f  g  h "


@pytest.mark.parametrize(
    ("name", "moves", "word", "expected"),
    [
        ("pgx/connect_four", [0] * 6, "1", "column 1 is full; legal: 2, 3, 4, 5, 6, 7"),
        ("pgx/connect_four", [], "8", "'8' is not a move: type 1 to 7, or help"),
        ("pgx/othello", [], "a1", "a1 is illegal: it turns over no stone; legal: d3, c4, f5, e6"),
        ("pgx/othello", [], "d4", "d4 is taken; legal: d3, c4, f5, e6"),
        ("pgx/othello", [], "pass", "you can't pass now; legal: d3, c4, f5, e6"),
        ("pgx/othello", [], "moves", "legal: d3, c4, f5, e6"),
        ("pgx/tic_tac_toe", [4], "", "type a1 to c3; moves lists the legal moves, quit leaves the game"),
    ],
)
def test_what_is_wrong_with_a_move_is_said(name, moves, word, expected):
    table, found = open_table(name), layout(name)
    for move in moves:
        table.move(move)
    config = RunConfig("dqn", name, 0, 1, 1, 1, 1, {}, {})
    assert play._explanation(word, found.action(word), table.legal(), table, found, config) == expected


def test_go_says_why_an_empty_point_is_forbidden():
    """Black fills the corner's neighbours; white may not play into it."""
    table, found = open_table("pgx/go_9x9"), layout("pgx/go_9x9")
    for name in ("A8", "J1", "B9"):
        table.move(found.action(name))
    config = RunConfig("dqn", "pgx/go_9x9", 0, 1, 1, 1, 1, {}, {})
    said = play._explanation("a9", found.action("a9"), table.legal(), table, found, config)
    assert said.startswith("A9 is illegal: suicide or ko") and said.endswith("others are legal")


def test_a_table_knows_who_won():
    table = open_table("pgx/tic_tac_toe")
    for move in (0, 3, 1, 4):
        table.move(move)
    assert table.think() in table.legal() and not table.over
    table.move(2)
    assert (table.over, table.winner, table.moves, table.legal()) == (True, 0, 5, [])
    stones = boards.stones_of(layout("pgx/tic_tac_toe"), table.observation, table.moves)
    np.testing.assert_array_equal(stones, [[1, 1, 1], [2, 2, 0], [0, 0, 0]])
    drawn = open_table("pgx/tic_tac_toe")
    for move in (0, 4, 8, 1, 7, 6, 2, 5, 3):
        drawn.move(move)
    assert (drawn.over, drawn.winner) == (True, None)
