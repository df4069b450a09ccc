import functools
import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.rollout import rollout
from jaxrl.training import advance, evaluate, loop, start, train
from jaxrl.types import Transition

B, T = 4, 5


def slow_metrics(state, trajectory):
    """Episodes followed one step after the other."""
    totals, lengths = np.array(state.episode_return, np.float64), np.array(state.episode_length)
    returns, counts = [], []
    for reward, terminated, truncated in zip(
        *map(np.asarray, (trajectory.reward, trajectory.terminated, trajectory.truncated)), strict=True
    ):
        for b in range(len(reward)):
            totals[b] += reward[b]
            lengths[b] += 1
            if terminated[b] or truncated[b]:
                returns.append(totals[b])
                counts.append(lengths[b])
                totals[b] = lengths[b] = 0
    return totals, lengths, returns, counts


@pytest.fixture(scope="module")
def begin(toys):
    return jax.jit(lambda key: start(key, toys.make_agent(), toys.env, toys.params, B))


@pytest.fixture(scope="module")
def proceed(toys):
    """``proceed(key, state, num_updates, on_update=None)``."""

    @functools.partial(jax.jit, static_argnums=(2, 3))
    def run(key, state, num_updates, on_update=None):
        counts = {"num_updates": num_updates, "rollout_length": T}
        return advance(key, toys.make_agent(), toys.env, toys.params, state, on_update=on_update, **counts)

    return run


def check_episodes(state, trajectory):
    totals, lengths, metrics = loop.episode_metrics(state, trajectory)
    slow_totals, slow_lengths, returns, counts = slow_metrics(state, trajectory)
    np.testing.assert_allclose(totals, slow_totals, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(lengths, slow_lengths)
    assert metrics["episodes"] == len(returns)
    np.testing.assert_allclose(metrics["episode_return"], np.mean(returns) if returns else np.nan, rtol=1e-5)
    np.testing.assert_allclose(metrics["episode_length"], np.mean(counts) if returns else np.nan, rtol=1e-5)
    return len(returns)


@pytest.mark.parametrize("ends", [0.0, 0.1, 1.0])
def test_episode_metrics_follow_returns_over_the_edges_of_rollouts(begin, ends):
    rng = np.random.default_rng(0)
    state = begin(jax.random.key(0))._replace(
        episode_return=jnp.asarray(rng.normal(size=B), jnp.float32), episode_length=jnp.arange(B, dtype=jnp.int32)
    )
    terminated, truncated = rng.random((2, 20, B)) < ends
    reward = rng.normal(size=(20, B)).astype(np.float32)
    trajectory = Transition(None, None, reward, None, jnp.asarray(terminated), jnp.asarray(truncated), None)
    episodes = check_episodes(state, trajectory)
    assert (episodes == 0) == (ends == 0.0) and (episodes == 20 * B) == (ends == 1.0)


def test_the_success_of_an_episode_is_that_of_its_last_step():
    terminated = np.array([[0, 0], [1, 0], [0, 0], [0, 1]], bool)
    success = np.array([[1, 1], [0, 1], [1, 1], [1, 1]], bool)
    trajectory = Transition(None, None, np.zeros((4, 2)), None, jnp.asarray(terminated), jnp.zeros((4, 2), bool), None)
    state = SimpleNamespace(episode_return=jnp.zeros(2), episode_length=jnp.zeros(2, jnp.int32))
    metrics = loop.episode_metrics(state, trajectory, jnp.asarray(success))[-1]
    assert metrics["episode_success"] == 0.5, "episode 1 was at its goal only before its end"
    none = loop.episode_metrics(state, trajectory._replace(terminated=trajectory.truncated), success)[-1]
    assert np.isnan(none["episode_success"])


def test_episode_metrics_of_a_recorded_rollout(begin, toys):
    state = begin(jax.random.key(1))
    _, _, trajectory = rollout(
        jax.random.key(2), toys.make_agent(), state.agent, toys.env, toys.params, state.env_state, state.observation, 30
    )
    assert check_episodes(state, trajectory) > 10


def test_metrics_without_a_finished_episode_are_nan(toys):
    params = toys.make_params(shortest=50, longest=50)
    counts = {"num_steps": 12 * B * T, "num_envs": B, "rollout_length": T}
    state, metrics = jax.jit(lambda key: train(key, toys.make_agent(), toys.env, params, **counts))(jax.random.key(0))
    np.testing.assert_array_equal(metrics["episodes"], [0] * 9 + [B] + [0] * 2)
    finished = np.arange(12) == 9
    np.testing.assert_array_equal(metrics["episode_return"], np.where(finished, 50 * 51 / 2, np.nan))
    np.testing.assert_array_equal(metrics["episode_length"], np.where(finished, 50, np.nan))
    np.testing.assert_array_equal(state.episode_length, 10)


def test_start_has_strong_types_and_a_buffer_for_each_leaf(toys):
    state = start(jax.random.key(0), toys.make_agent(), toys.env, toys.params, B)
    assert not any(getattr(leaf, "weak_type", False) for leaf in jax.tree.leaves(state))
    # Donation refuses one buffer given twice; the agent's target starts as its parameters.
    jax.block_until_ready(jax.jit(lambda state: state, donate_argnums=0)(state))


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_training_goes_on_from_a_state_as_if_unbroken(begin, proceed, toys, cut):
    key = jax.random.key(5)
    whole, metrics = proceed(key, begin(key), 7)
    half, before = proceed(key, begin(key), cut)
    rest, after = proceed(key, half, 7 - cut)
    toys.assert_close(whole, rest)
    toys.assert_close(metrics, jax.tree.map(lambda x, y: jnp.concatenate([x, y]), before, after))
    assert whole.updates == 7


def test_train_counts_whole_updates_and_goes_on_with_the_environments_of_the_state(toys):
    key, agent = jax.random.key(0), toys.make_agent()
    state, metrics = train(key, agent, toys.env, toys.params, num_steps=2 * B * T + 3, num_envs=B, rollout_length=T)
    assert metrics["loss"].shape == (2,)
    state, metrics = train(
        key, agent, toys.env, toys.params, num_steps=3 * B * T, num_envs=1, rollout_length=T, state=state
    )
    assert metrics["loss"].shape == (3,) and state.updates == 5 and state.episode_return.shape == (B,)


@pytest.mark.parametrize(
    ("counts", "message"),
    [((0, 1, 1), "num_steps: got 0"), ((9, 0, 1), "num_envs: got 0"), ((9, 1, -1), "rollout_length: got -1")]
    + [((9, 5, 2), "num_steps: got 9, must be at least num_envs x rollout_length = 10")],
)
def test_counts_that_cannot_be_are_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        loop.count_updates(*counts)


def look(state, metrics):
    return {**metrics, "double": 2 * state.updates}, False


def stop_at_3(state, metrics):
    return metrics, state.updates == 3


def test_on_update_looks(begin, proceed, toys):
    key = jax.random.key(0)
    plain, watched = proceed(key, begin(key), 4), proceed(key, begin(key), 4, look)
    toys.assert_same(plain[0], watched[0])
    np.testing.assert_array_equal(watched[1]["double"], [2, 4, 6, 8])
    assert watched[1]["ran"].all()
    toys.assert_same(plain[1], {name: watched[1][name] for name in plain[1]})


@pytest.mark.parametrize("chunks", [(7,), (2, 5), (3, 4), (5, 2)])
def test_on_update_stops_wherever_the_run_is_cut(begin, proceed, toys, chunks):
    key = jax.random.key(0)
    expected, _ = proceed(key, begin(key), 3)
    state, parts = begin(key), []
    for num_updates in chunks:
        state, metrics = proceed(key, state, num_updates, stop_at_3)
        parts.append(metrics)
    metrics = jax.tree.map(lambda *rows: np.concatenate(rows), *parts)
    toys.assert_close(state._replace(stopped=expected.stopped), expected)
    assert state.stopped
    np.testing.assert_array_equal(metrics["ran"], [True] * 3 + [False] * 4)
    np.testing.assert_array_equal(np.isnan(metrics["loss"]), ~metrics["ran"])
    np.testing.assert_array_equal(metrics["updates"], [1, 2, 3, 0, 0, 0, 0])


def test_a_population_equals_its_members_alone(cartpole):
    """vmap over seeds and a hyper-parameter in one call, against a loop over them."""

    def run(key, learning_rate):
        agent = cartpole.make_agent(learning_rate=learning_rate)
        counts = {"num_steps": 192, "num_envs": cartpole.num_envs, "rollout_length": cartpole.rollout_length}
        state, metrics = train(key, agent, cartpole.env, cartpole.params, **counts)
        return state.agent.params, metrics

    keys = jax.random.split(jax.random.key(0), 2)
    rates = jnp.array([1e-3, 3e-2])
    grid = jax.jit(jax.vmap(jax.vmap(run, (None, 0)), (0, None)))(keys, rates)
    alone = jax.jit(run)
    for i, key in enumerate(keys):
        for j, rate in enumerate(rates):
            member = jax.tree.map(lambda x, i=i, j=j: x[i, j], grid)
            for x, y in zip(jax.tree.leaves(member), jax.tree.leaves(alone(key, rate)), strict=True):
                np.testing.assert_allclose(x, y, rtol=2e-3, atol=2e-4)
    losses = np.asarray(grid[1]["loss"])
    assert len(np.unique(losses[..., -1])) == 4, "seeds or learning rates change nothing"
    np.testing.assert_allclose(grid[1]["episodes"][:, 0, 0], grid[1]["episodes"][:, 1, 0])


@pytest.mark.parametrize(
    ("key", "given"),
    [
        (0, "0"),
        (np.int32(3), "int32[]"),
        (jax.random.split(jax.random.key(0), 3), "key<fry>[3]"),
        (None, "None"),
        ({}, "dict"),
    ],
)
def test_what_is_no_key_is_named(toys, key, given):
    calls = (
        lambda: train(key, toys.make_agent(), toys.env, toys.params, num_steps=100),
        lambda: start(key, toys.make_agent(), toys.env, toys.params, B),
        lambda: evaluate(key, toys.make_agent(), None, toys.env, toys.params, num_episodes=1),
    )
    for call in calls:
        with pytest.raises(TypeError, match=re.escape(f"key: got {given}, must be one key such as jax.random.key(0)")):
            call()
