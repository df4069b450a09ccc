"""Targets of unrolls against a slow loop over whole histories: ends of both kinds, movers, the wrap, the write head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.replay import hindsight, prioritized, ring, uniform, unrolls
from jaxrl.replay.base import Slot
from jaxrl.types import Transition

K, N_STEP, GAMMA, ROWS, B, A = 3, 2, 0.9, 13, 2, 3
FLOATS = ("reward", "discount", "value", "next_value")


def history(length, seed=0):
    """Steps of B environments, ``[T, B]``, with terminations, truncations, and changes of the mover."""
    rng = np.random.default_rng(seed)
    reward, value, next_value = rng.normal(size=(3, length, B)).astype(np.float32)
    end = rng.choice(3, size=(length, B), p=[0.7, 0.15, 0.15])
    terminated, truncated = end == 1, end == 2
    mover = rng.choice([-1.0, 1.0], size=(length, B))
    time = np.arange(length, dtype=np.float32)[:, None] + 100 * np.arange(B, dtype=np.float32)
    policy = rng.dirichlet(np.ones(A), size=(length, B)).astype(np.float32)
    return Transition(
        observation=time,
        action=rng.integers(0, A, size=(length, B)).astype(np.int32),
        reward=reward,
        discount=np.where(terminated, 0.0, mover).astype(np.float32),
        terminated=terminated,
        truncated=truncated,
        next_observation=(),
        extras=unrolls.Searched(policy, value, next_value),
    )


def slow(steps, t, b, end):
    """The targets of the unroll at step t of environment b, of a history whose steps from ``end`` on do not exist."""

    def value_at(t):
        total, weight = 0.0, 1.0
        for i in range(t, t + N_STEP):
            total += weight * steps.reward[i, b]
            weight *= GAMMA * steps.discount[i, b]
            if steps.terminated[i, b]:
                return total
            if steps.truncated[i, b] or i + 1 == end:
                return total + weight * steps.extras.next_value[i, b]
        return total + weight * steps.extras.value[t + N_STEP, b]

    found, state = [], "inside"
    for k in range(K + 1):
        if state == "inside" and t + k >= end:
            state = "unknown"
        if state == "inside":
            i = t + k
            found.append((True, True, steps.reward[i, b], value_at(i), steps.extras.policy[i, b], steps.action[i, b]))
            state = "absorbed" if steps.terminated[i, b] else "unknown" if steps.truncated[i, b] else "inside"
        else:
            found.append((False, state == "absorbed", 0.0, 0.0, np.zeros(A), None))
    return found


@pytest.mark.parametrize("total", [5, 24, 41])
def test_targets_against_a_slow_loop(total):
    steps = jax.tree.map(jnp.asarray, history(total))
    state = ring.init(unrolls.example(jax.ShapeDtypeStruct((), jnp.float32), A), ROWS, B)
    for start in range(0, total, 5):  # 5 does not divide 13: rollouts lie across the end of the ring
        state = ring.add(state, jax.tree.map(lambda x: x[start : start + 5], steps))  # noqa: B023
    steps = history(total)
    kept = np.arange(max(0, total - ROWS), total)
    t, b = (x.ravel() for x in np.meshgrid(kept, np.arange(B)))
    slot = Slot(jnp.asarray(t % ROWS, jnp.int32), jnp.asarray(b, jnp.int32))
    weight = jnp.linspace(0.1, 1.0, len(t))
    settings = {"unroll_steps": K, "n_step": N_STEP, "gamma": GAMMA}
    found = jax.tree.map(np.asarray, unrolls.at(jax.random.key(0), state, slot, weight, **settings))
    np.testing.assert_array_equal(found.observation, t + 100.0 * b)
    for n in range(len(t)):
        inside, known, reward, value, policy, action = zip(*slow(steps, t[n], b[n], total), strict=True)
        np.testing.assert_array_equal(found.inside[:, n], inside)
        np.testing.assert_array_equal(found.known[:, n], known)
        np.testing.assert_allclose(found.reward[:, n], reward[:K], rtol=1e-6)
        np.testing.assert_allclose(found.value[:, n], value, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.policy[:, n], np.stack(policy), rtol=1e-6)
        assert all(x in (y, None) or y is None for x, y in zip(found.action[:, n], action, strict=False))
    # All that a target can be is in this history, once the ring is full.
    if total == 41:
        assert found.inside.all(axis=0).any() and (found.known & ~found.inside).any() and (~found.known).any()


@pytest.mark.parametrize("total", [5, 41])
def test_a_fresh_bootstrap_completes_the_value(total):
    steps = jax.tree.map(jnp.asarray, history(total))
    # The network of today finds what the searches found, as a function of the observation.
    worth = jnp.sin
    steps = steps._replace(extras=steps.extras._replace(value=worth(steps.observation)))
    state = ring.init(unrolls.example(jax.ShapeDtypeStruct((), jnp.float32), A), ROWS, B)
    state = ring.add(state, steps)
    t, b = (x.ravel() for x in np.meshgrid(np.arange(max(0, total - ROWS), total), np.arange(B)))
    row = jnp.asarray((t - max(0, total - ROWS)) % ROWS, jnp.int32)
    slot = Slot((state.head - min(total, ROWS) + row) % ROWS, jnp.asarray(b, jnp.int32))
    settings = {"unroll_steps": K, "n_step": N_STEP, "gamma": GAMMA}
    old = unrolls.at(jax.random.key(0), state, slot, jnp.ones(len(t)), **settings)
    # The values of the searches are not read.
    kept = state.transitions
    unread = kept._replace(extras=kept.extras._replace(value=jnp.full_like(kept.reward, jnp.nan)))
    state = state._replace(transitions=unread)
    fresh = unrolls.at(jax.random.key(0), state, slot, jnp.ones(len(t)), **settings, fresh=True)
    assert old.bootstrap is None
    completed = fresh.value + fresh.bootstrap.weight * worth(fresh.bootstrap.observation)
    np.testing.assert_allclose(np.where(old.inside, completed, 0.0), old.value, rtol=1e-5, atol=1e-6)
    # No weight where the episode, or what is stored, ends within n steps; and elsewhere there is one.
    reach = np.asarray(fresh.bootstrap.weight != 0)
    assert reach.any() and not reach.all()
    expected = np.asarray(fresh.observation[None] + np.arange(K + 1)[:, None] + N_STEP)
    np.testing.assert_array_equal(np.asarray(fresh.bootstrap.observation)[reach], expected[reach])


def test_actions_behind_a_termination_are_drawn():
    steps = jax.tree.map(jnp.asarray, history(8)._replace(terminated=np.ones((8, B), bool)))
    state = ring.add(ring.init(unrolls.example(jax.ShapeDtypeStruct((), jnp.float32), A), ROWS, B), steps)
    slot = Slot(jnp.zeros(300, jnp.int32), jnp.zeros(300, jnp.int32))
    found = unrolls.at(jax.random.key(0), state, slot, jnp.ones(300), unroll_steps=2, n_step=1, gamma=1.0)
    assert (found.action[0] == steps.action[0, 0]).all()
    assert np.bincount(found.action[1], minlength=A).min() > 70


@pytest.mark.parametrize("make", [uniform, prioritized])
def test_a_replay_draws_unrolls_and_takes_priorities(make):
    buffer = make(ROWS * B, n_step=1, gamma=GAMMA)
    buffer = unrolls.along(buffer, unroll_steps=K, n_step=N_STEP, gamma=GAMMA)
    state = buffer.init(unrolls.example(jax.ShapeDtypeStruct((), jnp.float32), A), B)
    state = buffer.add(state, jax.tree.map(jnp.asarray, history(20)))
    once = jnp.zeros(1, jnp.int32)
    state = buffer.update_priorities(state, Slot(once, once), jnp.full(1, 1e4))
    drawn = buffer.sample(jax.random.key(0), state, 64)
    assert drawn.action.shape == (K, 64) and drawn.policy.shape == (K + 1, 64, A)
    share = float(jnp.mean((drawn.index.row == 0) & (drawn.index.env == 0)))
    assert share > 0.8 if make is prioritized else share < 0.2
    assert (float(drawn.weight.min()) < 1.0) == (make is prioritized)


def test_replays_of_other_kinds_are_refused():
    buffer = hindsight(lambda achieved, goal: achieved[:, 0])(26, n_step=1, gamma=1.0)
    buffer = unrolls.along(buffer._replace(init=lambda example, num_envs: {}), unroll_steps=1, n_step=1, gamma=1.0)
    with pytest.raises(TypeError, match=r"^replay: .*dict.*uniform"):
        buffer.init(None, 2)
