"""The ring and its windows against a plain-Python model of a replay: every field of every possible sample, exactly."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxrl.ops import returns
from jaxrl.replay import Slot, n_step, ring, sequences, uniform

# Few shapes, so that programs are shared: (capacity, environments), rows 1, 3, 4 and 5.
GEOMETRIES = [(1, 1), (9, 3), (7, 2), (5, 1)]
LENGTHS = [1, 2, 3, 7]
GAMMA = 0.5  # a power of two, with small whole rewards: the arithmetic is exact

add = jax.jit(ring.add)
at = jax.jit(n_step.at, static_argnums=2)
window = jax.jit(ring.window, static_argnums=3)
sample_sequences = jax.jit(sequences.sample, static_argnums=(2, 3), static_argnames="across_episodes")


class Model:
    """A replay that keeps each environment's transitions in a list, and counts."""

    def __init__(self, rows, num_envs):
        self.rows, self.num_envs = rows, num_envs
        self.columns = [[] for _ in range(num_envs)]  # everything ever added

    def add(self, trajectory):
        for t in range(len(trajectory.reward)):
            for env in range(self.num_envs):
                self.columns[env].append(jax.tree.map(lambda x: x[t, env], trajectory))  # noqa: B023

    def kept(self):
        """The times that are kept, oldest first; all environments keep the same."""
        count = len(self.columns[0])
        return range(max(0, count - self.rows), count)

    def window(self, time, env, n):
        """The transitions of a window, cut at the episode's end and where the writing stands."""
        steps = []
        for transition in self.columns[env][time : time + n]:
            steps.append(transition)
            if transition.terminated or transition.truncated:
                break
        return steps

    def reduced(self, time, env, n):
        """``Sample.transition`` and ``Sample.discount``."""
        steps = self.window(time, env, n)
        reward, weight = 0.0, 1.0
        for step in steps:
            reward += weight * step.reward
            weight *= GAMMA * step.discount
        product = np.prod([step.discount for step in steps])
        last = steps[-1]
        transition = steps[0]._replace(
            reward=reward,
            discount=product,
            terminated=last.terminated,
            truncated=last.truncated,
            next_observation=last.next_observation,
        )
        return transition, weight


@st.composite
def histories(draw):
    """A geometry, and trajectories to add one after the other."""
    capacity, num_envs = draw(st.sampled_from(GEOMETRIES))
    lengths = draw(st.lists(st.sampled_from(LENGTHS), max_size=6))
    total = sum(lengths) * num_envs

    def numbers(values):
        return np.array(draw(st.lists(st.sampled_from(values), min_size=total, max_size=total)))

    ends, rewards, discounts = numbers([0, 0, 0, 1, 2, 3]), numbers([-3, 0, 1, 2]), numbers([1, 1, 1, -1, 0.5])
    return capacity, num_envs, lengths, *(x.reshape(-1, num_envs) for x in (ends, rewards, discounts))


def replay(history, example, trajectory):
    """The ring and the model after a history, and at which rows the model's times lie."""
    capacity, num_envs, lengths, ends, rewards, discounts = history
    state = uniform(capacity, n_step=1, gamma=GAMMA).init(example(), num_envs)
    model = Model(-(-capacity // num_envs), num_envs)
    assert state.rows == model.rows
    start = 0
    for length in lengths:
        now = slice(start, start + length)
        steps = trajectory(start, length, num_envs, ends[now], rewards[now], discounts[now])
        model.add(jax.tree.map(np.asarray, steps))
        state = add(state, steps)
        start += length
    return state, model


def stored_rows(state, model):
    """Time -> row: the newest lies before the head, and so on backwards."""
    newest = len(model.columns[0]) - 1
    return {time: (int(state.head) - 1 - (newest - time)) % state.rows for time in model.kept()}


def all_slots(rows, num_envs):
    row, env = np.divmod(np.arange(rows * num_envs, dtype=np.int32), num_envs)
    return Slot(jnp.asarray(row), jnp.asarray(env.astype(np.int32)))


def assert_equal(expected, got):
    jax.tree.map(np.testing.assert_array_equal, expected, got)


fast = partial(settings, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fast(max_examples=150)
@given(history=histories(), n=st.sampled_from([1, 2, 3]))
def test_every_sample_is_that_of_the_model(example, trajectory, history, n):
    state, model = replay(history, example, trajectory)
    assert state.filled == len(model.kept())
    n = min(n, state.rows)
    slots = all_slots(state.rows, state.num_envs)
    transition, discount = jax.tree.map(np.asarray, at(state, slots, n, GAMMA))
    steps, valid = jax.tree.map(np.asarray, window(state, *slots, n))
    for time, row in stored_rows(state, model).items():
        for env in range(state.num_envs):
            i = row * state.num_envs + env
            expected, weight = model.reduced(time, env, n)
            assert_equal(expected, jax.tree.map(lambda x: x[i], transition))  # noqa: B023
            assert discount[i] == weight
            members = model.window(time, env, n)
            np.testing.assert_array_equal(valid[:, i], np.arange(n) < len(members))
            for k, member in enumerate(members):
                assert_equal(member, jax.tree.map(lambda x: x[k, i], steps))  # noqa: B023


@fast(max_examples=60)
@given(history=histories(), length=st.sampled_from([1, 2, 3]), across=st.booleans(), seed=st.integers(0, 2**31 - 1))
def test_sequences_are_unbroken(example, trajectory, history, length, across, seed):
    state, model = replay(history, example, trajectory)
    length, kept = min(length, state.rows), model.kept()
    steps, valid = sample_sequences(jax.random.key(seed), state, 64, length, across_episodes=across)
    steps, valid = jax.tree.map(np.asarray, (steps, valid))
    if not kept:
        assert not valid.any()
        return
    beginnings = range(kept[0], max(kept[-1] - length + 1, kept[0]) + 1)
    for i in range(64):
        time, env = (int(x) for x in steps.observation[0, i])
        assert time in beginnings
        members = model.columns[env][time : time + length] if across else model.window(time, env, length)
        np.testing.assert_array_equal(valid[:, i], np.arange(length) < len(members))
        for k, member in enumerate(members):
            assert_equal(member, jax.tree.map(lambda x: x[k, i], steps))  # noqa: B023
    # Every beginning and every environment has its turn, where they are few enough for 64 draws to be sure of it.
    if len(beginnings) * state.num_envs <= 4:
        seen = {tuple(x) for x in steps.observation[0].astype(int).tolist()}
        assert seen == {(time, env) for time in beginnings for env in range(state.num_envs)}


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_windows_make_the_returns_of_ops(example, trajectory, n):
    """``reward + discount * value`` equals ``ops.returns.n_step_returns``, an implementation of its own."""
    random, length, num_envs, gamma = np.random.default_rng(n), 12, 3, 0.9
    ends = random.choice([0, 0, 0, 1, 2], (length, num_envs))
    rewards, discounts = random.normal(size=(2, length, num_envs))
    steps = trajectory(0, length, num_envs, ends, rewards, discounts)
    state = add(ring.init(example(), 12, num_envs), steps)
    transition, discount = at(state, all_slots(12, num_envs), n, gamma)
    values = jnp.asarray(random.normal(size=(length, num_envs)), jnp.float32)
    last, env = transition.next_observation.astype(int).T
    got = transition.reward + discount * values[last, env]
    going = returns.continues(steps.terminated, steps.truncated)
    expected = returns.n_step_returns(steps.reward, returns.bootstrap_discount(steps.discount, gamma), values, going, n)
    np.testing.assert_allclose(got.reshape(length, num_envs), expected, rtol=1e-5, atol=1e-5)


def test_a_truncated_window_bootstraps_and_a_terminated_one_does_not(example, trajectory):
    ends = [[0, 0], [1, 2], [0, 0]]
    state = add(ring.init(example(), 3, 2), trajectory(0, 3, 2, ends))
    transition, discount = at(state, Slot(jnp.array([0, 0]), jnp.array([0, 1])), 3, 0.5)
    np.testing.assert_array_equal(discount, [0.0, 0.25])
    np.testing.assert_array_equal(transition.terminated, [True, False])
    np.testing.assert_array_equal(transition.truncated, [False, True])
    np.testing.assert_array_equal(transition.next_observation[:, 0], [1.5, 1.5])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda x: x._replace(reward=x.reward[:, :1]), ValueError, r"trajectory.reward: got shape \(2, 1\)"),
        (lambda x: x._replace(action=x.action.astype(jnp.float32)), TypeError, "trajectory.action: got float32"),
        (lambda x: x._replace(extras=()), ValueError, "trajectory: got PyTreeDef"),
    ],
)
def test_what_does_not_fit_is_refused(example, trajectory, change, error, message):
    with pytest.raises(error, match=message):
        ring.add(ring.init(example(), 4, 2), change(trajectory(0, 2, 2)))


def test_sequences_longer_than_the_ring_are_refused(example):
    with pytest.raises(ValueError, match="length: got 5, must be at most 4"):
        sequences.sample(jax.random.key(0), ring.init(example(), 4, 2), 8, 5)
