"""Uniform sampling, what it refuses, and what any replay weighs."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import replay
from jaxrl.replay import n_step, prioritized, uniform

MAKERS = {"uniform": uniform, "prioritized": prioritized}


def counts(index, shape):
    found = np.zeros(shape)
    np.add.at(found, (np.asarray(index.row), np.asarray(index.env)), 1)
    return found


@pytest.mark.parametrize("length", [2, 5, 13])
def test_every_slot_that_is_filled_is_as_likely(example, trajectory, length):
    made = uniform(15, n_step=1, gamma=0.9)
    state = made.add(made.init(example(), 3), trajectory(0, length, 3))
    size, rows = 20_000, min(length, 5)
    sample = made.sample(jax.random.key(length), state, size)
    found = counts(sample.index, (5, 3))
    assert not found[rows:].any()
    expected = size / (3 * rows)
    chi_square = ((found[:rows] - expected) ** 2 / expected).sum()
    assert chi_square < 3 * rows + 5 * np.sqrt(2 * 3 * rows)  # mean + 5 standard deviations
    np.testing.assert_array_equal(sample.weight, 1.0)
    transition, discount = n_step.at(state, sample.index, 1, 0.9)
    jax.tree.map(np.testing.assert_array_equal, (sample.transition, sample.discount), (transition, discount))


def test_an_empty_replay_gives_zeros(example):
    made = uniform(15, n_step=3, gamma=0.9)
    sample = made.sample(jax.random.key(0), made.init(example(), 3), 8)
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves((sample.transition, sample.discount)))


def test_priorities_change_nothing(example, trajectory):
    made = uniform(15, n_step=1, gamma=0.9)
    state = made.add(made.init(example(), 3), trajectory(0, 2, 3))
    sample = made.sample(jax.random.key(0), state, 4)
    jax.tree.map(np.testing.assert_array_equal, made.update_priorities(state, sample.index, jnp.ones(4)), state)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("n", [1, 3])
def test_rewards_computed_anew_are_those_that_might_have_been_stored(example, trajectory, name, n):
    def reward_fn(steps):
        assert steps.reward.shape == (n, 16) and steps.next_observation.shape == (n, 16, 2)
        return reward_fn_of(steps)

    made = MAKERS[name](15, n_step=n, gamma=0.5)
    ends = np.zeros((4, 3), int)
    ends[1, 0], ends[2, 1] = 1, 2
    stored = trajectory(0, 4, 3, ends)
    state = made.add(made.init(example(), 3), stored)
    other = made.add(made.init(example(), 3), stored._replace(reward=reward_fn_of(stored)))
    anew = made.sample(jax.random.key(0), state, 16, reward_fn=reward_fn)
    jax.tree.map(np.testing.assert_array_equal, anew, made.sample(jax.random.key(0), other, 16))
    with pytest.raises(ValueError, match=r"reward_fn: got shape \(16,\)"):
        made.sample(jax.random.key(0), state, 16, reward_fn=lambda steps: steps.reward[0])


def reward_fn_of(steps):
    return steps.reward + 100.0 * steps.observation[..., 0] + steps.action


@pytest.mark.parametrize("name", MAKERS)
def test_states_keep_their_types(example, trajectory, name):
    """Nothing is weakly typed, and nothing changes, so that scans and checkpoints take it."""
    made = MAKERS[name](15, n_step=2, gamma=0.9)
    state = jax.eval_shape(lambda: made.init(example(), 3))

    def step(state, steps):
        sample = made.sample(jax.random.key(0), state, 4)
        return made.update_priorities(made.add(state, steps), sample.index, sample.transition.reward), sample

    after, sample = jax.eval_shape(step, state, trajectory(0, 2, 3))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    described = [[(x.shape, x.dtype, x.weak_type) for x in jax.tree.leaves(tree)] for tree in (state, after)]
    assert described[0] == described[1]
    assert not any(leaf.weak_type for leaf in jax.tree.leaves((state, sample)))


@pytest.mark.parametrize("name", MAKERS)
def test_the_environment_axis_can_be_split(example, trajectory, name):
    """Every leaf but the counters has one axis of B; what is added to half of it is half of what is added."""
    made = MAKERS[name](16, n_step=2, gamma=0.9)
    state, steps = made.init(example(), 4), trajectory(0, 3, 4)
    whole = made.add(state, steps)
    assert all(x.ndim == 0 or x.shape[min(x.ndim - 1, 1)] == 4 for x in jax.tree.leaves(state))

    def half(tree, axis, first):
        axis_of = lambda x: min(x.ndim - 1, 1) if axis is None else axis  # noqa: E731
        return jax.tree.map(lambda x: x if x.ndim == 0 else jnp.split(x, 2, axis_of(x))[first], tree)

    for first in (0, 1):
        apart = made.add(half(state, None, first), half(steps, 1, first))
        jax.tree.map(np.testing.assert_array_equal, half(whole, None, first), apart)


@pytest.mark.parametrize("name", MAKERS)
def test_size_is_known_before(example, name):
    made = MAKERS[name](1000, n_step=3, gamma=0.9)
    weighs = sum(leaf.nbytes for leaf in jax.tree.leaves(made.init(example(), 8)))
    assert replay.size_bytes(MAKERS[name], example(), 8, 1000) == weighs
    assert replay.size_bytes(made, example(), 8) == weighs
    with pytest.raises(ValueError, match="capacity: got None"):
        replay.size_bytes(MAKERS[name], example(), 8)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("seeds", [None, 2])
def test_a_full_replay_weighs_what_its_arrays_weigh_once(example, trajectory, name, seeds):
    """Compiled: a scan of add, sample and new priorities over a donated long replay needs no second copy of a leaf."""
    num_envs, members = 8, seeds or 1
    made = MAKERS[name](2**19, n_step=3, gamma=0.9)

    def run(key, state):
        def step(state, i):
            steps = trajectory(0, 2, num_envs)
            state = made.add(state, steps)
            sample = made.sample(jax.random.fold_in(key, i), state, 32)
            return made.update_priorities(state, sample.index, sample.transition.reward), sample.weight.sum()

        return jax.lax.scan(step, state, jnp.arange(10))

    def init(_):
        return made.init(example(), num_envs)

    key = jax.random.key(0)
    if seeds:
        run, init, key = jax.vmap(run), jax.vmap(init), jax.random.split(key, seeds)
    state = jax.eval_shape(init, jnp.arange(members))
    memory = jax.jit(run, donate_argnums=1).lower(key, state).compile().memory_analysis()
    weighs = members * replay.size_bytes(made, example(), num_envs)
    smallest = members * 2**19  # the flags, a byte each
    assert weighs <= memory.alias_size_in_bytes < weighs + 0.1 * smallest
    assert memory.temp_size_in_bytes < 0.5 * smallest
    assert memory.output_size_in_bytes < weighs + 0.1 * smallest


@pytest.mark.parametrize(
    ("arguments", "num_envs", "error", "message"),
    [
        ({"capacity": 0}, 1, ValueError, "capacity: got 0, must be at least 1"),
        ({"capacity": 1e6}, 1, TypeError, "capacity: got 1000000.0, must be an integer"),
        ({"n_step": 0}, 1, ValueError, "n_step: got 0, must be at least 1"),
        ({"n_step": True}, 1, TypeError, "n_step: got True, must be an integer"),
        ({"gamma": 1.1}, 1, ValueError, r"gamma: got 1.1, must lie in \[0, 1\]"),
        ({"gamma": None}, 1, TypeError, "gamma: got None, must be a number"),
        ({"capacity": 7}, 8, ValueError, "capacity: got 7, must be at least 8"),
        ({"capacity": 8, "n_step": 3}, 4, ValueError, "n_step: got 3, must be at most 2,"),
        ({}, 0, ValueError, "num_envs: got 0"),
    ],
)
@pytest.mark.parametrize("name", MAKERS)
def test_bad_arguments_are_refused(example, name, arguments, num_envs, error, message):
    arguments = {"capacity": 100, "n_step": 1, "gamma": 0.9, **arguments}
    with pytest.raises(error, match=message):
        MAKERS[name](arguments.pop("capacity"), **arguments).init(example(), num_envs)


@pytest.mark.parametrize("module", ["base", "prioritized"])
def test_examples_in_docstrings(module):
    import importlib

    result = doctest.testmod(importlib.import_module(f"jaxrl.replay.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
