"""Positions wait for the end of their game, in a ring that wraps, and are drawn only then: against a list of games."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops.outcomes import open_returns
from jaxrl.replay import outcomes

NUM_ENVS = 3


def history(length, seed):
    """Random games in which the mover changes: reward, discount, done ``[length, B]``."""
    generator = np.random.default_rng(seed)
    done = generator.random((length, NUM_ENVS)) < 0.15
    reward = np.where(done, generator.choice([-1.0, 0.0, 1.0], done.shape), 0.0)
    discount = np.where(done, 0.0, np.where(generator.random(done.shape) < 0.8, -1.0, 1.0))
    return reward.astype(np.float32), discount.astype(np.float32), done


def outcome(reward, discount, done, t, until):
    """What follows step ``t`` of one environment, None where no end came before ``until``."""
    total, weight = 0.0, 1.0
    for k in range(t, until):
        total, weight = total + weight * reward[k], weight * discount[k]
        if done[k]:
            return total
    return None


@partial(jax.jit, static_argnames="n_step")
def add(ring, first, reward, discount, done, value, n_step):
    total, weight = open_returns(reward, discount, 0 * reward, ~done)
    # A position is known by a number of its own.
    name = (first * NUM_ENVS + jnp.arange(done.size, dtype=jnp.int32)).reshape(done.shape).astype(jnp.float32)
    policy = jnp.stack([name, -name], -1)
    return outcomes.add(ring, name, policy, total, weight, jnp.full(NUM_ENVS, value), n_step=n_step)


def grown(rows, length, chunk, seed=0, n_step=None, value=0.0):
    """The ring after every chunk of the history."""
    steps = history(length, seed)
    ring = outcomes.init(jax.ShapeDtypeStruct((), jnp.float32), 2, rows, NUM_ENVS)
    for t in range(0, length, chunk):
        ring = add(ring, t, *(x[t : t + chunk] for x in steps), value, n_step=n_step)
        yield ring


def filled(rows, length, chunk, n_step=None, value=0.0):
    return list(grown(rows, length, chunk, n_step=n_step, value=value))[-1], history(length, 0)


@pytest.mark.parametrize(("rows", "chunk"), [(64, 4), (24, 4), (25, 4), (24, 1), (10, 8)])
def test_what_is_drawn_has_the_outcome_of_its_game(rows, chunk):
    length = 48
    ring, (reward, discount, done) = filled(rows, length, chunk)
    known = {}
    for t in range(max(0, length - rows), length):
        for b in range(NUM_ENVS):
            found = outcome(reward[:, b], discount[:, b], done[:, b], t, length)
            if found is not None:
                known[t * NUM_ENVS + b] = found
    counted = outcomes.counts(ring)
    assert int(counted[-1]) == len(known)
    drawn = outcomes.sample(jax.random.key(0), ring, counted, 4000)
    assert {int(name) for name in drawn.observation} == set(known)
    for name, policy, value in zip(*map(np.asarray, drawn), strict=True):
        assert value == known[int(name)]
        assert policy.tolist() == [name, -name]
    # Uniformly: of 4000 draws each of some hundred gets its share.
    _, times = np.unique(drawn.observation, return_counts=True)
    assert times.max() < 3 * 4000 / len(known)


def test_games_end_in_different_rollouts_of_one_batch():
    ring, (_, _, done) = filled(64, 48, 4)
    assert len({tuple(np.flatnonzero(done[:, b])) for b in range(NUM_ENVS)}) == NUM_ENVS
    open_ = np.asarray(ring.transitions.discount[:48] != 0)
    for b in range(NUM_ENVS):
        last = np.flatnonzero(done[:, b])[-1]
        np.testing.assert_array_equal(open_[:, b], np.arange(48) > last)


def test_what_is_old_enough_takes_the_value_for_the_rest():
    ring, (reward, discount, done) = filled(64, 48, 4, n_step=6, value=7.0)
    for t in range(48):
        for b in range(NUM_ENVS):
            # Closed at the first end of a rollout that lies at least six steps behind it.
            end = min(-(-(t + 6) // 4) * 4, 48)
            found = outcome(reward[:, b], discount[:, b], done[:, b], t, end)
            if found is None and end - t >= 6:
                found = 7.0 * np.prod(discount[t:end, b])
            assert (found is not None) == (float(ring.transitions.discount[t, b]) == 0), (t, b)
            if found is not None:
                np.testing.assert_allclose(ring.transitions.reward[t, b], found, rtol=1e-6)


@pytest.mark.parametrize(("rows", "chunk"), [(64, 4), (10, 8), (5, 2), (7, 3)])
def test_what_is_written_over_before_its_outcome_is_counted(rows, chunk):
    """Against a list: row t is gone once row t + rows is written, and was open if no end came before that rollout."""
    length = 48
    _, _, done = history(length, 0)
    for at, ring in zip(range(chunk, length, chunk), grown(rows, length, chunk), strict=False):
        lost = range(max(0, at - rows), at + chunk - rows)
        assert int(outcomes.overwritten(ring, chunk)) == sum(int((~done_before(done, t, at)).sum()) for t in lost), at


def done_before(done, t, until):
    """Which environments' episode at step t ended before ``until``."""
    return done[t:until].any(axis=0)


@pytest.mark.parametrize(("rows", "n_step"), [(3, None), (6, 4)])
def test_a_ring_too_short_to_wait_in_is_refused(rows, n_step):
    with pytest.raises(ValueError, match=f"replay_capacity: got {rows} steps for each of {NUM_ENVS} environments"):
        filled(rows, 8, 4, n_step=n_step)


def test_nothing_is_known_of_an_empty_ring():
    ring = outcomes.init(jax.ShapeDtypeStruct((2,), jnp.float32), 4, 8, NUM_ENVS)
    counted = outcomes.counts(ring)
    assert int(counted[-1]) == 0
    drawn = outcomes.sample(jax.random.key(0), ring, counted, 5)
    assert drawn.observation.shape == (5, 2)
    assert not drawn.policy.any()
