"""Matches against games that are worked out by hand or played by plain Python."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from benchmarks import tic_tac_toe as game
from jaxrl import envs
from jaxrl.envs import probes
from jaxrl.training.match import match
from jaxrl.types import Agent, Remembered


def preferring(order):
    """Takes the first legal of the squares in an order; an array state says which order."""

    def act(key, state, observation, *, explore=True):
        assert not explore and observation.env_state is not None
        rank = jnp.where(observation.action_mask, jnp.argsort(state), 99)
        return jnp.argmin(rank, axis=-1), ()

    return Agent(lambda key, num_envs=1: jnp.array(order), act, lambda *args: None), jnp.array(order)


def played(first, second):
    """1, 0 or -1 for the first player, by plain Python."""
    board, turn = game.EMPTY, 0
    while game.legal(board):
        order = (first, second)[turn % 2]
        board = game.play(board, next(cell for cell in order if cell in game.legal(board)))
        turn += 1
    return (1 if turn % 2 else -1) if game.lost(board) else 0


@pytest.fixture(scope="module")
def tic_tac_toe():
    return envs.make("pgx/tic_tac_toe")


ORDERS = [
    ([0, 1, 2, 3, 4, 5, 6, 7, 8], [8, 7, 6, 5, 4, 3, 2, 1, 0]),
    ([4, 0, 8, 2, 6, 1, 3, 5, 7], [0, 1, 2, 3, 4, 5, 6, 7, 8]),
    ([4, 0, 8, 2, 6, 1, 3, 5, 7], [1, 8, 2, 6, 7, 3, 5, 0, 4]),
    ([0, 8, 7, 2, 4, 5, 3, 1, 6], [4, 1, 6, 5, 8, 0, 2, 3, 7]),
]


@pytest.mark.parametrize("one, other", ORDERS)
def test_games_end_as_in_plain_python(one, other, tic_tac_toe):
    env, params = tic_tac_toe
    score = match(jax.random.key(0), env, params, preferring(one), preferring(other), num_games=6)
    for half, result in enumerate((played(one, other), -played(other, one))):
        counts = [int(x[half]) for x in (score.wins, score.draws, score.losses)]
        assert counts == [3 * (result == 1), 3 * (result == 0), 3 * (result == -1)]
    assert score.games.tolist() == [3, 3]


def test_the_orders_end_in_all_three_ways():
    assert {played(*pair) for pair in ORDERS} | {-played(*pair[::-1]) for pair in ORDERS} == {1, 0, -1}


def test_openings_are_played_from_both_sides(tic_tac_toe):
    """One player against itself: what it wins as the first in an opening, its twin wins in the other half."""
    env, params = tic_tac_toe
    player = preferring(ORDERS[1][0])
    play = jax.jit(lambda key: match(key, env, params, player, player, num_games=128, opening_moves=2))
    score = play(jax.random.key(1))
    assert score.wins.tolist() == score.losses[::-1].tolist() and score.draws[0] == score.draws[1]
    assert float(score.points) == 0.5
    assert (score.wins + score.draws).min() > 0 and score.losses.max() > 0, "games differ"


def test_games_that_are_cut_are_drawn(tic_tac_toe):
    env, params = tic_tac_toe
    players = preferring(ORDERS[0][0]), preferring(ORDERS[0][1])
    params = params._replace(max_steps_in_episode=4)
    for options in ({}, {"max_steps": 2}):
        score = match(jax.random.key(0), env, params, *players, num_games=4, **options)
        assert score.draws.tolist() == [2, 2]


def test_what_is_refused(tic_tac_toe):
    env, params = tic_tac_toe
    player = preferring(range(9))
    key = jax.random.key(0)
    alone = probes.DiscountProbe()
    with pytest.raises(ValueError, match=r"must be a two-player game"):
        match(key, alone, alone.default_params, player, player)
    with pytest.raises(TypeError, match=r"other: got Agent, must be a pair \(agent, state\)"):
        match(key, env, params, player, player[0])
    with pytest.raises(ValueError, match=r"num_games: got 3, must be even"):
        match(key, env, params, player, player, num_games=3)
    with pytest.raises(ValueError, match=r"opening_moves: got -1"):
        match(key, env, params, player, player, opening_moves=-1)
    with pytest.raises(ValueError, match=r"max_steps: got None"):
        match(key, env, params._replace(max_steps_in_episode=None), player, player)


def test_what_remembers_is_refused(tic_tac_toe):
    env, params = tic_tac_toe
    player, key = preferring(range(9)), jax.random.key(0)
    with pytest.raises(ValueError, match=r"match: got an environment in envs.remember, .*envs\.window\(env, k\)"):
        match(key, envs.remember(env, jnp.zeros(3)), params, player, player)
    act = lambda *given, explore=True: (Remembered(player[0].act(*given, explore=explore)[0], ()), ())  # noqa: E731
    with pytest.raises(ValueError, match=r"match: got a player with a memory.*envs\.window\(env, k\)"):
        match(key, env, params, player, (player[0]._replace(act=act), player[1]))


def test_the_page_of_games_is_true():
    page = (Path(__file__).parents[2] / "docs" / "games.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    exec(compile(block, "docs/games.md", "exec"), {})
