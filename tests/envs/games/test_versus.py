"""An opponent inside the environment: signs, ends, who begins, and several movers in a row."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs
from jaxrl.training.evaluate import evaluate
from jaxrl.types import Agent, Remembered


def by_the_book():
    """Takes ``state.moves[stones]``."""

    def act(key, state, observation, *, explore=True):
        return state.moves[observation.features[:, 0].astype(jnp.int32)], ()

    return Agent(lambda key, num_envs=1: (), act, lambda key, state, trajectory: (state, {}))


def by_chance(num_actions):
    def act(key, state, observation, *, explore=True):
        return jax.random.categorical(key, jnp.where(observation.action_mask, 0.0, -jnp.inf)).astype(jnp.int32), ()

    return Agent(lambda key, num_envs=1: (), act, lambda key, state, trajectory: (state, {}))


# Leave a multiple of three: perfect play, which from five takes two.
PERFECT = jnp.array([0, 0, 1, 0, 0, 1], jnp.int32)
# One stone at a time.
SLOW = jnp.zeros(6, jnp.int32)
# One stone and again, until the last.
GREEDY = jnp.full(6, 2, jnp.int32)


@lru_cache(maxsize=1)
def compiled(env):
    return jax.jit(env.reset), jax.jit(env.step)


def play(env, mine, key):
    """One episode: what each of the player's steps gave, and what was seen last."""
    reset, step = compiled(env)
    observation, state = reset(key)
    record = []
    while True:
        stones = int(observation.features[0])
        observation, state, reward, terminated, truncated, info = step(key, state, mine[stones])
        record.append((stones, float(reward), float(info["discount"]), bool(terminated), bool(truncated)))
        if terminated or truncated:
            return record, info["final_observation"]


def test_the_book_s_games_by_hand(nim, scripted):
    env = envs.versus(nim(), by_the_book(), scripted(PERFECT))
    played = [play(env, SLOW, jax.random.key(seed))[0] for seed in range(12)]
    games = {game[0][0]: game for game in played}
    # The player begins: 5 -> 4, the opponent leaves 3; 3 -> 2, the opponent takes both and wins.
    assert games[5] == [(5, 0.0, 1.0, False, False), (3, -1.0, 0.0, True, False)]
    # The opponent began and left 3.
    assert games[3] == [(3, -1.0, 0.0, True, False)]
    assert set(games) == {3, 5}


def test_a_win_of_the_player_counts_one(nim, scripted):
    env = envs.versus(nim(), by_the_book(), scripted(SLOW))
    games = [play(env, PERFECT, jax.random.key(seed))[0] for seed in range(12)]
    assert {game[-1][1:] for game in games} == {(1.0, 0.0, True, False)}


def test_movers_that_move_again(nim, scripted):
    env = envs.versus(nim(), by_the_book(), scripted(GREEDY))
    for seed in range(6):
        record, _ = play(env, GREEDY, jax.random.key(seed))
        # Who begins takes all: as the opponent in the reset itself, so that the player begins every game it sees.
        assert [step[0] for step in record] == [5, 4, 3, 2, 1]
        assert record[-1][1] == 1.0
    record, _ = play(env, SLOW, jax.random.key(0))
    assert record == [(5, -1.0, 0.0, True, False)]


def test_a_cut_keeps_the_sign_of_what_is_seen_last(nim, scripted):
    # Cut at four stones, where the opponent would be to move: its value counts against the player.
    env = envs.versus(nim(cut_at=4.0), by_the_book(), scripted(SLOW))
    found = [play(env, SLOW, jax.random.key(seed)) for seed in range(8)]
    for record, final in found:
        assert record == [(5, 0.0, -1.0, False, True)]
        assert float(final.features[0]) == 4.0


def test_a_batch_equals_its_rows_and_begins_half_of_the_games(nim, scripted):
    env = envs.versus(nim(), by_the_book(), scripted(PERFECT))
    keys = jax.random.split(jax.random.key(0), 256)
    observation, state = jax.jit(jax.vmap(env.reset))(keys)
    first = np.asarray(observation.features[:, 0])
    assert set(first) == {3.0, 5.0}
    assert 96 < (first == 5).sum() < 160
    actions = jnp.arange(256) % 3
    together = jax.jit(jax.vmap(env.step))(keys, state, actions)
    step = jax.jit(env.step)
    for i in range(0, 256, 37):
        alone = step(keys[i], jax.tree.map(lambda x: x[i], state), actions[i])  # noqa: B023
        jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[i], y), together, alone)  # noqa: B023


def test_it_is_an_environment(nim, scripted):
    env = envs.versus(nim(), by_the_book(), scripted(SLOW))
    assert envs.check(env).terminated > 100
    assert envs.num_players(env) == 1


def test_the_mean_score_of_chance_against_chance_is_even():
    game, params = envs.make("pgx/tic_tac_toe")
    arena = envs.versus(envs.expose_state(game), by_chance(9), (), params)
    player = by_chance(9)
    episodes = jax.jit(lambda key, p: evaluate(key, player, (), arena, p, num_episodes=512, max_steps=9))(
        jax.random.key(0), arena.default_params
    )
    assert episodes.finished.all()
    assert set(np.unique(episodes.returns)) == {-1.0, 0.0, 1.0}
    assert abs(float(episodes.returns.mean())) < 0.15
    # Whoever begins wins 58% to 29%.
    assert 0.08 < float((episodes.returns == 0).mean()) < 0.18


def test_the_opponent_is_a_parameter(nim, scripted):
    env = envs.versus(nim(), by_the_book(), scripted(SLOW))
    params = env.default_params._replace(opponent=scripted(jnp.stack([PERFECT, SLOW])))
    axes = env.default_params._replace(opponent=scripted(0), game=None)
    player = by_the_book()

    def score(params):
        episodes = evaluate(jax.random.key(0), player, scripted(SLOW), env, params, num_episodes=32, max_steps=9)
        return episodes.returns.mean()

    scores = jax.vmap(score, in_axes=(axes,))(params)
    assert float(scores[0]) == -1.0
    assert float(scores[1]) > -1.0


def test_bad_arguments_are_named(nim):
    with pytest.raises(TypeError, match="opponent: got str, must be an Agent"):
        envs.versus(nim(), "random", ())
    with pytest.raises(ValueError, match="got CartPole-v1 with 1 player"):
        envs.versus(envs.make("CartPole-v1")[0], by_the_book(), ())
    with pytest.raises(ValueError, match="versus: got an environment in envs.remember"):
        envs.versus(envs.remember(nim(), jnp.zeros(3)), by_the_book(), ())


def test_an_opponent_that_remembers_is_refused_and_a_player_may(nim, scripted):
    book = by_the_book()
    act = lambda *given, explore=True: (Remembered(book.act(*given)[0], ()), ())  # noqa: E731
    with pytest.raises(ValueError, match="versus: got a player with a memory"):
        envs.versus(nim(), book._replace(act=act), scripted(SLOW)).reset(jax.random.key(0))
    arena = envs.remember(envs.versus(nim(), book, scripted(SLOW)), jnp.zeros(3))
    assert envs.num_players(arena) == 1
    observation, state = arena.reset(jax.random.key(0))
    observation = arena.step(jax.random.key(0), state, Remembered(SLOW[0], jnp.ones(3)))[0]
    np.testing.assert_array_equal(observation.memory, 1.0)
