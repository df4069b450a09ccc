"""Replays with 64 bits enabled, which widens what a carry made for float32 can't take, and with extreme priorities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import replay
from jaxrl.replay import episodes, outcomes, sequences

MAKERS = {"uniform": replay.uniform, "prioritized": replay.prioritized}


def wider(tree):
    return jax.tree.map(lambda x: jnp.asarray(x, {"f": jnp.float64, "i": jnp.int64}.get(x.dtype.kind)), tree)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("n", [1, 3])
def test_states_keep_their_types_with_64_bits(example, trajectory, name, n):
    """Numbers of 64 bits are stored as the example's, and what is drawn is the same as without them."""
    made = MAKERS[name](15, n_step=n, gamma=0.9)

    def play(state, steps):
        state = made.add(state, steps)
        sample = made.sample(jax.random.key(0), state, 8)
        return made.update_priorities(state, sample.index, sample.transition.reward * 2.0), sample

    narrow = play(made.init(example(), 3), trajectory(0, 4, 3))
    with jax.enable_x64(True):
        state = made.init(example(), 3)
        after, sample = play(state, wider(trajectory(0, 4, 3)))
        after = made.update_priorities(after, sample.index, jnp.ones(8, jnp.float64))
        types = [[x.dtype for x in jax.tree.leaves(tree)] for tree in (state, after)]
        assert types[0] == types[1]
        assert {x.dtype.itemsize for x in jax.tree.leaves(sample)} <= {1, 4}
        jax.tree.map(np.testing.assert_array_equal, sample, narrow[1])
        drawn, _ = sequences.sample(jax.random.key(0), getattr(state, "ring", state), 4, 2)
        assert drawn.reward.dtype == jnp.float32


def test_other_dtypes_are_still_refused(example, trajectory):
    made = replay.uniform(15, n_step=1, gamma=0.9)
    steps = trajectory(0, 4, 3)
    for wrong in (steps.reward.astype(jnp.int32), steps.reward.astype(jnp.float16)):
        with pytest.raises(TypeError, match="reward: got"):
            made.add(made.init(example(), 3), steps._replace(reward=wrong))


def test_outcomes_with_64_bits():
    with jax.enable_x64(True):
        ring = outcomes.init(jax.ShapeDtypeStruct((2,), jnp.float32), 3, 8, 2)
        total, policy = jnp.ones((4, 2), jnp.float32), jnp.ones((4, 2, 3), jnp.float32) / 3
        after = outcomes.add(ring, jnp.zeros((4, 2, 2), jnp.float32), policy, total, total * 0, total[0], n_step=2)
        assert [x.dtype for x in jax.tree.leaves(after)] == [x.dtype for x in jax.tree.leaves(ring)]
        assert outcomes.overwritten(after, 4).dtype == outcomes.counts(after).dtype == jnp.int32
        drawn = outcomes.sample(jax.random.key(0), after, outcomes.counts(after), 5)
        assert drawn.outcome.tolist() == [1.0] * 5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("alpha", [0.6, 1.0])
def test_extreme_priorities_leave_the_tree_finite(example, trajectory, dtype, alpha):
    made = replay.prioritized(15, n_step=1, gamma=0.9, alpha=alpha, epsilon=1e-6)
    state = made.add(made.init(example(), 3), trajectory(0, 5, 3))
    top = float(jnp.finfo(dtype).max)
    index = made.sample(jax.random.key(0), state, 15).index
    for priorities in (jnp.full(15, -top, dtype), jnp.zeros(15, dtype)):
        state = made.update_priorities(state, index, priorities)
        sample = made.sample(jax.random.key(1), state, 64)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.tree, state.max_priority, sample.weight)))
        assert (sample.weight > 0).all() and float(sample.weight.max()) == 1.0
    # What surprised nobody is still drawn: epsilon is not lost in half precision.
    assert (np.asarray(state.tree.levels[0])[0, :, :5] > 0).all()


@pytest.mark.parametrize("name", MAKERS)
def test_an_empty_trajectory_changes_nothing(example, trajectory, name):
    made = MAKERS[name](16, n_step=1, gamma=0.9)
    state = made.add(made.init(example(), 3), trajectory(0, 4, 3))
    after = jax.jit(made.add)(state, jax.tree.map(lambda x: x[:0], trajectory(0, 4, 3)))
    assert jax.tree.all(jax.tree.map(np.array_equal, state, after))


def test_an_empty_trajectory_changes_no_episodes(example, trajectory):
    state = episodes.add(episodes.init(example(), 5, 3), trajectory(0, 4, 3))
    after = episodes.add(state, jax.tree.map(lambda x: x[:0], trajectory(0, 4, 3)))
    assert jax.tree.all(jax.tree.map(np.array_equal, state, after))
