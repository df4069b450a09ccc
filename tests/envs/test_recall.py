"""The T-maze and the memory chain: what they show, what they pay, and what one earns who forgets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import envs
from jaxrl.envs.recall.t_maze import EAST, NORTH, SOUTH, WEST

B = 256


def play(env, params, policy, num_steps):
    """Plays ``policy(observations so far [t + 1], t)`` in B environments; leaves ``[T, B, ...]``."""
    reset, step = jax.jit(jax.vmap(env.reset, (0, None))), jax.jit(jax.vmap(env.step, (0, 0, 0, None)))
    observation, state = reset(jax.random.split(jax.random.key(0), B), params)
    seen, rows = [observation], []
    for t in range(num_steps):
        keys = jax.random.split(jax.random.key(t + 1), B)
        observation, state, *outcome = step(keys, state, policy(seen, t), params)
        rows.append((seen[-1], *outcome))
        seen.append(observation)
    return jax.tree.map(lambda *x: np.stack(x), *rows)


def test_the_t_maze_is_bakker_s():
    """Against plain Python, by random moves: what is seen, what is paid, and both ends."""
    env, params = envs.make("TMaze-3", max_steps_in_episode=14)
    moves = np.random.default_rng(0).choice(4, p=[0.1, 0.6, 0.1, 0.2], size=(80, B)).astype(np.int32)
    seen, reward, terminated, truncated, info = play(env, params, lambda seen, t: moves[t], 80)
    assert terminated.sum() > 500 and (truncated & ~terminated).sum() > 30
    for b in range(16):
        time, place, north = 0, 0, None
        for t in range(80):
            if time == 0:
                north = tuple(seen[t, b]) == (0, 1, 1)
                assert north or tuple(seen[t, b]) == (1, 1, 0)
            else:
                assert tuple(seen[t, b]) == ((0, 1, 0) if place == 3 else (1, 0, 1))
            move, turned, time = moves[t, b], place == 3 and moves[t, b] in (NORTH, SOUTH), time + 1
            if turned:
                expected = 4.0 if (move == NORTH) == north else -0.1
                assert info["success"][t, b] == (expected == 4.0)
            else:
                before, place = place, min(max(place + (move == EAST) - (move == WEST), 0), 3)
                expected = 0.0 if place > before else -0.1
                assert not info["success"][t, b]
            np.testing.assert_allclose(reward[t, b], expected, rtol=1e-6)
            assert terminated[t, b] == turned and truncated[t, b] == (time == 14)
            if turned or time == 14:
                time, place = 0, 0


@pytest.mark.parametrize("length", [1, 20])
def test_what_the_t_maze_pays_at_best_and_to_the_forgetful(length):
    env, params = envs.make(f"TMaze-{length}")

    def walk(turn):
        return lambda seen, t: jnp.full(B, EAST) if t < length else turn(seen)

    recalling = walk(lambda seen: jnp.where(seen[0][:, 0] == 0.0, NORTH, SOUTH))
    best = play(env, params, recalling, length + 1)
    assert best[2][-1].all() and not best[2][:-1].any()
    np.testing.assert_allclose(best[1].sum(0), 4.0)
    forgetful = play(env, params, walk(lambda seen: jnp.full(B, NORTH)), length + 1)[1].sum(0)
    assert set(np.round(forgetful, 4)) == {4.0, np.float32(-0.1)}
    # Half of the signs: within 4 standard errors of (4 - 0.1) / 2.
    np.testing.assert_allclose(forgetful.mean(), 1.95, atol=4 * 2.05 / np.sqrt(B))
    junction = play(env, params, walk(lambda seen: jnp.full(B, NORTH)), length + 1)[0][-1]
    np.testing.assert_array_equal(junction, np.broadcast_to([0.0, 1.0, 0.0], (B, 3)))


@pytest.mark.parametrize("length", [2, 20])
def test_where_the_memory_chain_shows_the_bit_and_what_it_pays(length):
    env, params = envs.make(f"MemoryChain-{length}")
    recalling = lambda seen, t: (seen[0][:, 2] > 0).astype(jnp.int32)  # noqa: E731
    seen, reward, terminated, truncated, _ = play(env, params, recalling, length + 1)
    assert terminated[-1].all() and not terminated[:-1].any() and not truncated.any()
    np.testing.assert_array_equal(reward.sum(0), 1.0)
    assert (reward[:-1] == 0).all()
    # The observation lags: the bit is in the first two, and all others are alike in every episode.
    assert (np.abs(seen[:2, :, 2]) == 1.0).all() and (seen[2:, :, 2] == 0.0).all()
    assert (seen[2:] == seen[2:, :1]).all()
    np.testing.assert_allclose(seen[-1, :, 0], 1.0 / length, rtol=1e-5)
    constant = play(env, params, lambda seen, t: jnp.zeros(B, jnp.int32), length + 1)[1].sum(0)
    assert set(constant) == {-1.0, 1.0}
    np.testing.assert_allclose(constant.mean(), 0.0, atol=4 / np.sqrt(B))


def test_a_window_of_one_step_less_does_not_hold_the_bit():
    env, params = envs.make("MemoryChain-5")
    for k, held in ((5, True), (4, False)):
        window = envs.window(env, k)
        seen = play(window, params, lambda seen, t: jnp.zeros(B, jnp.int32), 6)[0]
        assert (np.abs(seen[-1, :, :, 2]).max(-1) == 1.0).all() == held


@pytest.mark.parametrize("name", ["TMaze-4", "MemoryChain-4"])
def test_they_keep_the_protocol(name):
    env, params = envs.make(name)
    report = envs.check(env, params)
    assert report.terminated > 50 and report.weak_types == () or name.startswith("MemoryChain")
    low, high = env.observation_space(params).low, env.observation_space(params).high
    seen, _ = env.reset(jax.random.key(0), params)
    assert name.startswith("MemoryChain") or ((low <= seen) & (seen <= high)).all()
    assert jaxrl.spec(env, params).action.num_actions == env.num_actions


def test_names():
    for name in ("TMaze-7", "jaxrl/TMaze-7"):
        env, params = envs.make(name)
        assert (env.name, env.length, params.max_steps_in_episode) == ("TMaze-7", 7, 32)
    assert envs.make("TMaze")[0].name == "TMaze-20" and envs.make("TMaze", length=5, right=1.0)[1].right == 1.0
    env, params = envs.make("MemoryChain-30", num_bits=3)
    assert (env.name, params.memory_length, env.num_bits) == ("MemoryChain-30", 30, 3)
    assert {"TMaze", "MemoryChain", "MemoryChain-bsuite"} <= set(envs.available())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("TMaze-0", {}, "TMaze-0: length: got 0, must be at least 1"),
        ("TMaze", {"length": 2.5}, "TMaze: length: got 2.5"),
        ("MemoryChain-1", {}, "MemoryChain-1: memory_length: got 1, must be at least 2"),
        ("MemoryChain", {"num_bits": 0}, "MemoryChain: num_bits: got 0, must be at least 1"),
        ("TMaze-5", {"length": 6}, "length: got 6, must be 5"),
        ("Tmaze-5", {}, "did you mean 'TMaze'"),
    ],
)
def test_wrong_names_and_sizes_are_refused(name, arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        envs.make(name, **arguments)
