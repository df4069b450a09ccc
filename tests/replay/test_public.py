"""Every public function of replay at the edges of every float dtype: one row for those that belong together."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrl import replay
from jaxrl.ops import outcomes as open_outcomes
from jaxrl.replay import episodes, n_step, outcomes, relabel, ring, sequences, sum_tree, unrolls
from jaxrl.replay.base import Slot
from jaxrl.replay.prioritized import importance_weights
from jaxrl.replay.relabel import Steps
from jaxrl.types import Observation, Transition

from ..edges import DTYPES, FEW, A, N, Row, T, check, covered, finite, public, within

GAMMA, BATCH, ROWS_KEPT = 0.9, 8, T + 1


def trajectory(r, d, terminated, truncated, observation=None):
    seen = r[..., None] if observation is None else observation
    action = jnp.zeros((T, N), jnp.int32)
    return Transition(seen, action, r, d, terminated, truncated, seen)


def example(steps):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), steps)


def filled(*steps):
    steps = trajectory(*steps)
    return ring.add(ring.init(example(steps), ROWS_KEPT, N), steps)


def sampled(make, key, steps):
    """Two draws, with priorities that are the rewards between them."""
    made = make(ROWS_KEPT * N, n_step=2, gamma=GAMMA)
    assert replay.size_bytes(made, example(steps), N) > 0
    state = made.add(made.init(example(steps), N), steps)
    first = made.sample(key, state, BATCH)
    state = made.update_priorities(state, first.index, first.transition.reward)
    second = made.sample(jax.random.fold_in(key, 1), state, BATCH)
    for sample in (first, second):
        assert sample.weight.dtype == jnp.float32
        assert np.isfinite(sample.weight).all() and (sample.weight > 0).all() and float(sample.weight.max()) == 1.0
        assert (jnp.abs(sample.discount) <= 1.0).all()
    seen = second.transition.observation
    return first.transition.reward, second.transition.reward, second.discount, second.transition.discount, seen


def with_goals(r):
    seen = r[..., None]
    return Observation(seen, goal=seen, achieved_goal=-seen)


def reached(achieved_goal, goal):
    return achieved_goal[:, 0] == goal[:, 0]


def missed(achieved_goal, goal):
    return -(achieved_goal[:, 0] != goal[:, 0]).astype(goal.dtype)


def windows(key, *steps):
    """Steps of a ring, one after the other and as windows."""
    state = filled(*steps)
    slot = ring.draw(key, state, BATCH)
    assert (ring.steps_left(state, slot.row) >= 1).all() and (ring.later(state, slot.row, 1) < ROWS_KEPT).all()
    slots = ring.window_slots(state, slot, 2)
    taken = ring.take(state.transitions, *slots)
    seen, valid = ring.window(state, *slot, 2)
    np.testing.assert_array_equal(valid, ring.window_valid(state, slot, taken.terminated | taken.truncated))
    assert valid[0].all()
    reduced = n_step.reduce(seen.reward, seen.discount, valid, GAMMA)
    transition, discount = n_step.at(state, slot, 2, GAMMA)
    np.testing.assert_array_equal(transition.reward, reduced.reward)
    doubled = n_step.new_rewards(lambda window: 0.5 * window.reward, seen)
    drawn, there = sequences.sample(key, state, BATCH, 2)
    assert there[0].all()
    return transition.reward, discount, reduced.transition_discount, doubled, drawn.reward


def places(key, *steps):
    """Where episodes of a ring begin and end."""
    taken = trajectory(*steps)
    state = episodes.add(episodes.init(example(taken), ROWS_KEPT, N), taken)
    slot = ring.draw(key, state.ring, BATCH)
    before, after = episodes.around(state, slot)
    assert ((before >= 0) & (after >= 0) & (before + after < T)).all()
    first = episodes.Place(jnp.zeros((1, N), jnp.int32), jnp.zeros((1, N), jnp.int32))
    place = episodes.places(first, taken.terminated | taken.truncated, ROWS_KEPT)
    assert ((place.step >= 0) & (place.step < T)).all()
    return ring.take(state.ring.transitions.reward, *slot)


def trees(key, q):
    """Slots of no weight are never found."""
    weights = jnp.minimum(jnp.abs(q), 1e30).astype(jnp.float32)
    tree = sum_tree.set_rows(sum_tree.init(A, N), jnp.arange(A, dtype=jnp.int32), 0.0)
    slot = Slot(jnp.tile(jnp.arange(A, dtype=jnp.int32), N), jnp.repeat(jnp.arange(N, dtype=jnp.int32), A))
    tree = sum_tree.set_slots(tree, slot, weights.reshape(-1))
    total = sum_tree.total(tree)
    found, value = sum_tree.find(tree, jax.random.uniform(key, (BATCH,), jnp.float32) * total)
    np.testing.assert_array_equal(value, weights[found.env, found.row])
    assert (value > 0).all() | (total == 0)
    return total, importance_weights(jnp.maximum(value, 1e-6), 0.5)


def games(key, r, d, v, continues):
    """Positions and their outcomes, in float32 whatever comes in."""
    r, d, v = (jnp.clip(x, -1e37, 1e37).astype(jnp.float32) for x in (r, d, v))
    total, weight = open_outcomes.open_returns(r, d, v, continues)
    state = outcomes.init(jax.ShapeDtypeStruct((), jnp.float32), A, ROWS_KEPT, N)
    policy = jnp.full((T, N, A), 1.0 / A, jnp.float32)
    state = outcomes.add(state, r, policy, total, weight, v[-1], n_step=1)
    counted = outcomes.counts(state)
    assert int(counted[-1]) == T * N and int(outcomes.overwritten(state, 1)) == 0
    return outcomes.sample(key, state, counted, BATCH)


def unrolled(key, r, d, terminated, truncated):
    """One step and the return behind it, in float32 whatever comes in."""
    r, d = (jnp.clip(x, -1e37, 1e37).astype(jnp.float32) for x in (r, d))
    searched = unrolls.Searched(jnp.full((T, N, A), 1.0 / A, jnp.float32), r, r)
    steps = trajectory(r, d, terminated, truncated, r)._replace(next_observation=(), extras=searched)
    made = replay.uniform(ROWS_KEPT * N, n_step=1, gamma=GAMMA)
    made = unrolls.along(made, unroll_steps=1, n_step=1, gamma=GAMMA)
    state = made.add(made.init(unrolls.example(jax.ShapeDtypeStruct((), jnp.float32), A), N), steps)
    found = made.sample(key, state, BATCH)
    assert found.inside[0].all() and found.known[0].all() and (found.action < A).all()
    return found


def relabelled(r, d, terminated, truncated, goal):
    steps = Steps(r, d, terminated, truncated, r[..., None], -r[..., None])
    coin = jnp.arange(N) % 2 == 0
    new = relabel.relabel(steps, goal[:, None], coin, missed, reached)
    return new.reward, new.discount, relabel.where(coin, goal, -goal)


def screens(*steps):
    """Stacks of two pictures, each of which repeats its number."""
    times = jnp.arange(T + 1, dtype=jnp.uint8)[:, None]
    pictures = jnp.broadcast_to(times[..., None, None, None], (T + 1, N, 1, 1, 1))
    before = jnp.concatenate([pictures[:1], pictures[:-1]])
    stacks = jnp.concatenate([before, pictures], -1)
    return trajectory(*steps, stacks[:-1])._replace(next_observation=stacks[1:])


SUMS = {"share": 1 / 16}
STEPS = "rdcc"
ROWS = {
    "uniform size_bytes": Row(
        "k" + STEPS, lambda key, *x: sampled(replay.uniform, key, trajectory(*x)), finite, **SUMS
    ),
    "prioritized": Row(
        "k" + STEPS,
        lambda key, *x: sampled(functools.partial(replay.prioritized, alpha=1.0), key, trajectory(*x)),
        finite,
        oracle=False,
        **SUMS,
    ),
    "hindsight": Row(
        "k" + STEPS,
        lambda key, r, *x: sampled(replay.hindsight(missed, reached), key, trajectory(0 * r, *x, with_goals(r)))[:4],
        within(-2.0, 1.0),
        oracle=False,
    ),
    "frames": Row(
        "k" + STEPS, lambda key, *x: sampled(replay.frames(2), key, screens(*x))[:4], finite, oracle=False, **SUMS
    ),
    "ring.init ring.add ring.later ring.steps_left ring.draw ring.take ring.window_slots ring.window_valid ring.window "
    "n_step.reduce n_step.at n_step.new_rewards sequences.sample": Row("k" + STEPS, windows, finite, **SUMS),
    "episodes.init episodes.add episodes.places episodes.around": Row("k" + STEPS, places, finite),
    "sum_tree.init sum_tree.total sum_tree.find sum_tree.set_slots sum_tree.set_rows "
    "prioritized.importance_weights": Row("kq", trees, within(0.0, 1e32), dtype="float32", oracle=False),
    "outcomes.init outcomes.add outcomes.overwritten outcomes.counts outcomes.sample": Row(
        "krdrc", games, finite, dtype="float32", oracle=False
    ),
    "unrolls.example unrolls.along unrolls.at": Row("k" + STEPS, unrolled, finite, dtype="float32", oracle=False),
    "relabel.relabel relabel.where": Row(STEPS + "v", relabelled, finite),
}


def test_every_public_function_has_a_row():
    assert covered(ROWS) == {*public(replay, "outcomes", "relabel"), "prioritized.importance_weights"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ROWS, ids=lambda name: name.split()[0])
@FEW
@given(data=st.data())
def test_at_the_edges_of_its_dtype(name, dtype, data):
    check(ROWS[name], dtype, data)
