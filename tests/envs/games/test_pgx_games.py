"""pgx's games: whose reward, whose turn, ends, masks, and what is refused."""

import builtins
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pgx
import pytest

from jaxrl import envs
from jaxrl.envs.games import pgx_games

LINES = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]


@pytest.mark.parametrize("name", ["tic_tac_toe", "connect_four", "minatar-breakout", "2048"])
def test_games_keep_the_protocol(name):
    env, params = envs.make(f"pgx/{name}", max_steps_in_episode=min(pgx_games.STEPS[name], 42))
    report = envs.check(env, params, num_envs=16)
    assert report.episodes > 20
    assert envs.num_players(env) == (2 if name in ("tic_tac_toe", "connect_four") else 1)
    assert report.truncated == 0 or envs.num_players(env) == 1


def test_a_game_equals_one_in_plain_python():
    env, params = envs.make("pgx/tic_tac_toe")
    step = jax.jit(env.step)
    generator = np.random.default_rng(0)
    firsts, outcomes = set(), set()
    for game in range(24):
        observation, state = env.reset(jax.random.key(game), params)
        firsts.add(int(state.current_player))  # pgx's draw of who is player 0 must not matter
        mine, theirs = np.zeros(9, bool), np.zeros(9, bool)
        while True:
            np.testing.assert_array_equal(observation.features.reshape(9, 2), np.stack([mine, theirs], -1))
            np.testing.assert_array_equal(observation.action_mask, ~(mine | theirs))
            action = generator.choice(np.flatnonzero(~(mine | theirs)))
            mine[action] = True
            won = any(mine[list(line)].all() for line in LINES)
            over = won or (mine | theirs).all()
            observation, state, reward, terminated, truncated, info = step(jax.random.key(0), state, action, params)
            assert (float(reward), bool(terminated), bool(truncated)) == (float(won), over, False)
            assert float(info["discount"]) == (0.0 if over else -1.0)
            mine, theirs = theirs, mine
            np.testing.assert_array_equal(
                info["final_observation"].features.reshape(9, 2), np.stack([mine, theirs], -1)
            )
            if over:
                outcomes.add(won)
                assert not observation.features.any()
                break
    assert firsts == {0, 1}
    assert outcomes == {False, True}


def test_one_player_has_discounts_of_one_and_a_limit():
    env, params = envs.make("pgx/minatar-breakout", max_steps_in_episode=3)
    _, state = env.reset(jax.random.key(0), params)
    ends = []
    for _ in range(3):
        _, state, _, terminated, truncated, info = env.step(jax.random.key(1), state, jnp.int32(0), params)
        ends.append((bool(terminated), bool(truncated), float(info["discount"])))
    assert ends == [(False, False, 1.0), (False, False, 1.0), (False, True, 1.0)]


def test_every_game_of_pgx_is_offered_or_refused_with_a_reason():
    assert {*pgx_games.STEPS, *pgx_games.REFUSED} == {*pgx.available_envs(), "bridge_bidding"}
    assert "pgx/go_19x19" in envs.available()
    with pytest.raises(envs.UnknownEnvironment, match="kuhn_poker.*hidden cards"):
        envs.make("pgx/kuhn_poker")
    with pytest.raises(envs.UnknownEnvironment, match="did you mean 'pgx/connect_four'"):
        envs.make("pgx/connect_for")


def test_pgx_is_asked_for_when_a_game_is_made(monkeypatch):
    def without(name, *args):
        if name == "pgx":
            raise ImportError(name)
        return imported(name, *args)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(envs.NotInstalled, match=r'"pgx/go_9x9": pgx is not installed; pip install "jaxrl\[games\]"'):
        envs.make("pgx/go_9x9")


def test_a_game_that_is_first_made_inside_of_a_trace_works_outside_of_it_too():
    """A new process, since a game's modules are imported once."""
    code = """
import jax, jaxrl
jax.eval_shape(lambda: jaxrl.make("pgx/connect_four")[0].reset(jax.random.key(0)))
env, params = jaxrl.make("pgx/connect_four")
print(env.reset(jax.random.key(0), params)[0].features.shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout.strip() == "(6, 7, 2)", done.stderr[-2000:]
