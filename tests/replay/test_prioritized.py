"""Prioritised sampling against its exact distribution, and against flashbax."""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import replay
from jaxrl.replay import Slot, n_step

ALPHA, BETA = 0.6, 0.4


def make(capacity=60, **options):
    return replay.prioritized(capacity, **{"n_step": 1, "gamma": 0.9, "alpha": ALPHA, "beta": BETA, **options})


def filled(made, example, trajectory, length=20, num_envs=3):
    return made.add(made.init(example(), num_envs), trajectory(0, length, num_envs))


def random_priorities(state, made, seed=0):
    """Errors of both signs for every slot that is filled, and ``|error|`` as ``[rows, B]``."""
    rows, num_envs = int(state.ring.filled), state.ring.num_envs
    errors = np.random.default_rng(seed).normal(size=(rows, num_envs)).astype(np.float32) * 3
    row, env = (x.ravel() for x in np.indices(errors.shape, dtype=np.int32))
    return made.update_priorities(state, Slot(jnp.asarray(row), jnp.asarray(env)), jnp.asarray(errors.ravel())), errors


def counts(index, shape):
    found = np.zeros(shape)
    np.add.at(found, (np.asarray(index.row), np.asarray(index.env)), 1)
    return found


def test_samples_follow_the_priorities(example, trajectory):
    """Stratified: a slot's mass covers so many whole shares and two in part, so its count is nearly determined."""
    made, epsilon, size = make(epsilon=0.01), 0.01, 5000
    state, errors = random_priorities(filled(made, example, trajectory), made)
    expected = (np.abs(errors.astype(np.float64)) + epsilon) ** ALPHA
    expected *= size / expected.sum()
    sample = jax.jit(made.sample, static_argnums=2)
    totals = np.zeros_like(expected)
    for seed in range(40):
        found = counts(sample(jax.random.key(seed), state, size).index, errors.shape)
        assert np.abs(found - expected).max() < 2.0 + 1e-2
        totals += found
    # Over many draws the error is that of two fair edges each: standard deviation at most sqrt(40 / 2).
    assert np.abs(totals - 40 * expected).max() < 5 * np.sqrt(20)


@pytest.mark.parametrize("n", [1, 3])
def test_samples_are_the_windows_at_their_index(example, trajectory, n):
    made = make(n_step=n)
    state, _ = random_priorities(filled(made, example, trajectory, length=25), made)
    sample = made.sample(jax.random.key(1), state, 64)
    transition, discount = n_step.at(state.ring, sample.index, n, 0.9)
    jax.tree.map(np.testing.assert_array_equal, (sample.transition, sample.discount), (transition, discount))


def test_weights_are_those_of_the_paper(example, trajectory):
    made = make(epsilon=0.0)
    state, errors = random_priorities(filled(made, example, trajectory), made)
    sample = made.sample(jax.random.key(2), state, 128)
    probability = np.abs(errors) ** ALPHA / (np.abs(errors) ** ALPHA).sum()
    weights = (errors.size * probability[sample.index.row, sample.index.env]) ** -BETA
    np.testing.assert_allclose(sample.weight, weights / weights.max(), rtol=2e-5)
    assert sample.weight.max() == 1.0


def test_new_transitions_get_the_largest_priority_ever(example, trajectory):
    made = make(epsilon=0.0, alpha=1.0)
    state = filled(made, example, trajectory, length=2)
    assert leaves(state)[:3].tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
    state = made.update_priorities(state, slots([0, 0, 0], [1, 1, 2]), jnp.array([-5.0, 2.0, 0.5]))
    state = made.add(state, trajectory(2, 1, 3))
    assert leaves(state)[:4].tolist() == [[1, 5, 0.5], [1, 1, 1], [5, 5, 5], [0, 0, 0]]
    # Overwritten, an old transition takes its priority with it, and the largest stays what it was.
    state = made.update_priorities(state, slots([0, 2, 2], [1, 0, 1]), jnp.array([1.0, 1.0, 1.0]))
    state = made.add(state, trajectory(3, 19, 3))
    expected = np.full((20, 3), 5.0)
    expected[2] = [1, 1, 5]
    np.testing.assert_array_equal(leaves(state)[:20], expected)


def slots(row, env):
    return Slot(jnp.array(row, jnp.int32), jnp.array(env, jnp.int32))


def leaves(state):
    return np.asarray(state.tree.levels[0]).transpose(0, 2, 1).reshape(-1, state.ring.num_envs)


def test_an_empty_replay_gives_zeros(example):
    made = make(n_step=2)
    sample = made.sample(jax.random.key(0), made.init(example(), 3), 8)
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves((sample.transition, sample.discount)))
    np.testing.assert_array_equal(sample.weight, 1.0)


def test_beta_grows_to_one(example, trajectory):
    annealed, state = make(beta_steps=60, epsilon=0.0), None
    for length, beta in [(5, BETA + 0.6 * 0.25), (10, BETA + 0.6 * 0.75), (5, 1.0), (20, 1.0)]:
        steps = trajectory(0, length, 3)
        state = annealed.add(annealed.init(example(), 3) if state is None else state, steps)
        state, _ = random_priorities(state, annealed)
        weights = [m.sample(jax.random.key(3), state, 64).weight for m in (annealed, make(beta=beta, epsilon=0.0))]
        np.testing.assert_allclose(*weights, rtol=1e-5)
        assert weights[0].min() < 0.9


def test_floats_may_be_tracers_and_seeds_a_batch(example, trajectory):
    names, values = ("gamma", "alpha", "beta", "epsilon"), np.array([[0.9, 0.6, 0.4, 1e-2], [0.5, 1.0, 1.0, 0.0]])
    values = values.astype(np.float32)

    def run(key, floats):
        made = make(n_step=2, **dict(zip(names, floats, strict=True)))
        state, _ = random_priorities(filled(made, example, trajectory), made)
        sample = made.sample(key, state, 16)
        return made.update_priorities(state, sample.index, sample.transition.reward), sample

    def random_priorities(state, made):
        row, env = (jnp.asarray(x.ravel(), jnp.int32) for x in np.indices((20, 3)))
        return made.update_priorities(state, Slot(row, env), jnp.sin(jnp.arange(60.0))), None

    keys = jax.random.split(jax.random.key(4), 2)
    together = jax.jit(jax.vmap(run))(keys, values)
    for i in range(2):
        alone = jax.jit(run)(keys[i], [float(x) for x in values[i]])
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x[i], y, rtol=1e-5, atol=1e-6), together, alone)  # noqa: B023


def test_agrees_with_flashbax(example, trajectory):
    """The same priorities: the same probabilities, and the importance weights that follow from flashbax's."""
    size, keys = 24, jax.random.split(jax.random.key(0), 200)
    # All of them set: to what is new flashbax 0.1.3 gives the largest priority rounded down to a whole number.
    errors = np.abs(np.random.default_rng(0).normal(size=size)).astype(np.float32) * 3
    with warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
        warnings.simplefilter("ignore")
        import flashbax

        theirs = flashbax.make_prioritised_item_buffer(size, 1, size, add_batches=True, priority_exponent=ALPHA)
        names = jnp.arange(size)
        buffer = jax.jit(theirs.add)(theirs.init(names[0]), names)
        buffer = jax.jit(theirs.set_priorities)(buffer, names, jnp.asarray(errors))
        batch = jax.jit(jax.vmap(theirs.sample, (None, 0)))(buffer, keys)
    their_index = np.asarray(batch.experience)

    made = make(size, epsilon=0.0)
    state = made.add(made.init(example(), 1), trajectory(0, size, 1))
    state = made.update_priorities(state, slots(range(size), [0] * size), jnp.asarray(errors))
    sample = jax.jit(jax.vmap(lambda key: made.sample(key, state, size)))(keys)
    index = np.asarray(sample.transition.observation[..., 0]).astype(int)

    probability = np.full(size, np.nan)
    probability[their_index] = batch.probabilities
    assert np.isfinite(probability).sum() >= 20  # the others are too small to have been drawn
    ours = np.where(np.isfinite(probability), leaves(state)[:size, 0] / leaves(state).sum(), np.nan)
    np.testing.assert_allclose(ours, probability, rtol=1e-5)
    found, theirs_found = (np.bincount(i.ravel(), minlength=size) for i in (index, their_index))
    assert np.abs(found - theirs_found).max() < 5 * np.sqrt(len(keys))  # each of variance at most 1/2 a batch
    weights = (size * probability[index]) ** -BETA
    expected = weights / weights.max(axis=1, keepdims=True)
    known = np.isfinite(expected)
    assert known.mean() > 0.9
    np.testing.assert_allclose(np.asarray(sample.weight)[known], expected[known], rtol=1e-5)


def test_alpha_zero_is_uniform(example, trajectory):
    made = make(alpha=0.0)
    state, errors = random_priorities(filled(made, example, trajectory), made)
    sample = made.sample(jax.random.key(5), state, 600)
    assert np.abs(counts(sample.index, errors.shape) - 10).max() < 2
    np.testing.assert_array_equal(sample.weight, 1.0)


def test_binds_with_partial(example, trajectory):
    maker = partial(replay.prioritized, alpha=1.0, epsilon=0.0)
    made = maker(60, n_step=1, gamma=0.9)
    state = made.update_priorities(filled(made, example, trajectory), slots([0], [0]), jnp.array([0.25]))
    assert leaves(state)[0, 0] == 0.25


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alpha": 1.5}, ValueError, r"alpha: got 1.5, must lie in \[0, 1\]"),
        ({"beta": -0.1}, ValueError, "beta: got -0.1"),
        ({"beta": float("nan")}, ValueError, "beta: got nan"),
        ({"epsilon": -1e-6}, ValueError, "epsilon: got -1e-06"),
        ({"beta_steps": 0}, ValueError, "beta_steps: got 0, must be at least 1"),
        ({"alpha": "much"}, TypeError, "alpha: got 'much', must be a number"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        make(**options)
