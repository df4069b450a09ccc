"""A symmetry of the board is one of the rules: turning it and moving is moving and turning it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs
from jaxrl.envs.games import board_symmetries


@pytest.mark.parametrize(("name", "moves", "count"), [("tic_tac_toe", 4, 8), ("connect_four", 9, 2), ("othello", 5, 8)])
def test_moves_turn_with_the_board(name, moves, count):
    env, params = envs.make(f"pgx/{name}")
    step, generator = jax.jit(env.step), np.random.default_rng(0)
    observation, state = env.reset(jax.random.key(0), params)
    played = []
    for _ in range(moves):
        played.append(generator.choice(np.flatnonzero(observation.action_mask)))
        observation, state, *_ = step(jax.random.key(0), state, played[-1], params)
    num = 64
    seen, mask, policy = jax.tree.map(
        lambda x: jnp.repeat(x[None], num, 0), (observation.features, observation.action_mask, jnp.eye(env.num_actions))
    )
    keys = jax.random.split(jax.random.key(1), env.num_actions)
    # The same key turns the same sample alike, whatever the policy: so the policy of one action says where it goes.
    turned = [env.symmetries(keys[0], seen, mask, policy[:, action]) for action in range(env.num_actions)]
    goes = np.stack([np.argmax(found[2], -1) for found in turned], -1)  # [num, A]
    features, legal, _ = turned[0]
    assert len({tuple(row) for row in goes}) == count
    distinct = {tuple(goes[i]): i for i in range(num)}
    for i in distinct.values():
        if name == "othello":  # its first position has colours that a quarter turn swaps
            assert np.asarray(legal[i])[goes[i]].tolist() == np.asarray(observation.action_mask).tolist()
            continue
        again, there = env.reset(jax.random.key(0), params)
        for action in played:
            again, there, *_ = step(jax.random.key(0), there, goes[i][action], params)
        np.testing.assert_array_equal(features[i], again.features)
        np.testing.assert_array_equal(legal[i], again.action_mask)


def test_passes_stay_and_a_policy_stays_one():
    symmetries = board_symmetries(9, 9, rotations=True, passes=1)
    policy = jax.nn.softmax(jax.random.normal(jax.random.key(0), (32, 82)))
    _, mask, turned = symmetries(jax.random.key(1), jnp.zeros((32, 9, 9, 17)), None, policy)
    assert mask is None
    np.testing.assert_array_equal(turned[:, 81], policy[:, 81])
    np.testing.assert_array_equal(np.sort(turned, -1), np.sort(policy, -1))


def test_only_squares_turn():
    with pytest.raises(ValueError, match="rotations: got True for a 6 x 7 board"):
        board_symmetries(6, 7, rotations=True)
