"""Players that learn nothing: legal moves, wins in one, blocks, and what is refused."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs
from jaxrl.agents.players import random_player, uct_player
from jaxrl.envs import probes
from jaxrl.rollout import reset
from jaxrl.training.checks import PROPERTIES, Subject
from jaxrl.types import Discrete, Observation, Spec


@pytest.fixture(scope="module")
def tic_tac_toe():
    env, params = envs.make("pgx/tic_tac_toe")
    return envs.expose_state(env), params


def after(env, params, lines):
    """The observations ``[B]`` after lines of play of equal length."""
    observation, state = reset(jax.random.key(0), env, params, len(lines))
    for moves in np.array(lines).T:
        keys = jax.random.split(jax.random.key(0), len(lines))
        observation, state, *_ = jax.vmap(env.step, (0, 0, 0, None))(keys, state, jnp.asarray(moves), params)
    return observation


@pytest.fixture(scope="module")
def search(tic_tac_toe):
    """What uct does with 200 simulations, compiled once."""
    env, params = tic_tac_toe
    player = uct_player(envs.spec(env, params), envs.simulator(env, params), 200)
    return jax.jit(lambda key, seen: player.act(key, (), seen, explore=False)[0])


@pytest.mark.parametrize(
    "lines, wanted",
    [
        ([[0, 3, 1, 4], [8, 3, 4, 6]], [2, 0]),  # the first player wins at once, though the second threatens to
        ([[0, 3, 1, 4, 8], [7, 0, 3, 1, 5]], [5, 2]),  # the second player does
        ([[0, 4, 1], [8, 4, 7]], [2, 6]),  # the second player has to block
        ([[8, 0, 4, 1], [1, 4, 0, 2]], [2, 6]),  # the first player has to
    ],
)
def test_uct_takes_wins_in_one_and_blocks_losses_in_one(lines, wanted, tic_tac_toe, search):
    seen = after(*tic_tac_toe, lines)
    for seed in range(3):
        assert search(jax.random.key(seed), seen).tolist() == wanted


def test_the_random_player_takes_every_legal_move_as_often():
    player = random_player(Spec(jax.ShapeDtypeStruct((1,), jnp.float32), Discrete(4)))
    mask = jnp.broadcast_to(jnp.array([True, False, True, True]), (3000, 4))
    action, extras = player.act(jax.random.key(0), (), Observation(jnp.zeros((3000, 1)), action_mask=mask))
    counts = np.bincount(action, minlength=4)
    assert extras == () and counts[1] == 0
    np.testing.assert_allclose(counts[[0, 2, 3]] / 3000, 1 / 3, atol=0.04)
    action, _ = player.act(jax.random.key(0), (), jnp.zeros((3000, 1)))
    np.testing.assert_allclose(np.bincount(action) / 3000, 1 / 4, atol=0.04)


@pytest.fixture(scope="module")
def subjects(tic_tac_toe):
    probe = probes.DiscountProbe()
    env, params = tic_tac_toe
    uct = partial(uct_player, model=envs.simulator(env, params), num_simulations=4)
    return {
        "random": Subject(random_player, probe, probe.default_params, spec=envs.spec(probe)),
        "uct": Subject(uct, env, params, spec=envs.spec(env, params), rollout_length=3),
    }


# They have no greedy policy: both draw among what they find equal, exploring or not.
ALL = [name for name in PROPERTIES if name != "acts_greedily"]


@pytest.mark.parametrize(
    "player, property_",
    [*(("random", name) for name in ALL), *(("uct", name) for name in ("speaks_contract", "no_retrace", "repeats"))],
)
def test_players_keep_the_contract(player, property_, subjects):
    PROPERTIES[property_](subjects[player])


def test_players_learn_nothing(tic_tac_toe):
    player = random_player(envs.spec(*tic_tac_toe))
    state = player.init(jax.random.key(0), 3)
    assert player.update(jax.random.key(1), state, None) == (state, {}) and jax.tree.leaves(state) == []


def test_a_game_that_is_cut_is_not_planned_beyond(tic_tac_toe):
    """With one move left before the limit nothing is worth anything but a win at once."""
    env, _ = tic_tac_toe
    params = env.default_params._replace(max_steps_in_episode=5)
    player = uct_player(envs.spec(env, params), envs.simulator(env, params), 100)
    act = jax.jit(lambda key, seen: player.act(key, (), seen)[0])
    assert act(jax.random.key(0), after(env, params, [[0, 3, 1, 4]])).tolist() == [2]


def test_what_is_refused(tic_tac_toe):
    env, params = tic_tac_toe
    spec, model = envs.spec(env, params), envs.simulator(env, params)
    continuous = probes.DiscountProbe(continuous=True)
    with pytest.raises(TypeError, match=r"spec: got actions Box.* random_player takes discrete ones"):
        random_player(envs.spec(continuous, continuous.default_params))
    with pytest.raises(TypeError, match=r"model: got None"):
        uct_player(spec, None)
    with pytest.raises(ValueError, match=r"num_simulations: got 0, must be at least 1"):
        uct_player(spec, model, 0)
    with pytest.raises(ValueError, match=r"exploration: got -1.0"):
        uct_player(spec, model, exploration=-1.0)
    bare = after(env, params, [[0]])._replace(env_state=None)
    with pytest.raises(ValueError, match=r"env_state to plan from; wrap the environment: envs.expose_state"):
        uct_player(spec, model).act(jax.random.key(0), (), bare)
