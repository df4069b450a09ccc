"""Suites in JAX with other protocols: the adapter against known answers, and each suite that is installed."""

import sys
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl import envs
from jaxrl.envs.adapted import Adapted, Moved
from jaxrl.envs.registry import ADAPTERS
from jaxrl.types import Box, Discrete, Observation


def line():
    """Counts steps; action 1 ends the task at 3, the suite's own limit at 7. A step returns integers."""
    return Adapted(
        "toy/line",
        None,
        start=lambda key: (jnp.zeros(2), jnp.int32(0)),
        move=lambda key, x, action: Moved(
            x + 1, jnp.stack([x + 1, action]), x + 1, (action == 1) & (x + 1 == 3), x + 1 == 7
        ),
        action=Discrete(2),
        max_steps_in_episode=5,
    )


@pytest.mark.parametrize(("action", "limit", "length"), [(0, 5, 5), (1, 5, 3), (0, 9, 7), (1, 3, 3)])
def test_ends_and_final_observations_are_told_apart(action, limit, length):
    env = line()
    params = env.default_params._replace(max_steps_in_episode=limit)
    step = jax.jit(env.step)
    seen, state = env.reset(jax.random.key(0), params)
    for time in range(1, length + 1):
        seen, state, reward, terminated, truncated, info = step(jax.random.key(time), state, jnp.int32(action), params)
        final = info["final_observation"]
        assert reward == time and final.tolist() == [time, action] and seen.dtype == final.dtype == jnp.float32
        assert (terminated | truncated) == (time == length)
    assert terminated == (action == 1) and truncated == (action == 0), "a task that ends at the limit is terminated"
    assert info["discount"] == 1 - terminated and seen.tolist() == [0, 0] and state.time == state.inner == 0


def test_the_adapter_keeps_the_protocol():
    report = envs.check(line(), num_envs=8, num_steps=16)
    assert report.terminated > 0 and report.truncated > 0


class Physics:
    """What brax and Playground share."""

    action_size = 2

    def reset(self, key):
        x = jax.random.normal(key, (3,))
        return SimpleState(x, {"state": x, "privileged_state": x * 2}, jnp.float32(0.0), jnp.float32(0.0))

    def step(self, state, action):
        x = state.x + action.sum()
        return SimpleState(x, {"state": x, "privileged_state": x * 2}, x.sum(), jnp.where(x[0] > 3.0, 1.0, 0.0))


class SimpleState(NamedTuple):
    x: jax.Array
    obs: dict
    reward: jax.Array
    done: jax.Array


def test_physics(monkeypatch):
    fake = SimpleNamespace(_envs={"toy": Physics, "fast": Physics}, get_environment=lambda name, backend: Physics())
    monkeypatch.setitem(sys.modules, "brax", SimpleNamespace(envs=fake))
    monkeypatch.setitem(sys.modules, "brax.envs", fake)
    assert envs.available("brax") == ["brax/toy"]
    env, params = jaxrl.make("brax/toy", max_steps_in_episode=6)
    action = jaxrl.spec(env, params).action
    assert params.max_steps_in_episode == 6 and isinstance(action, Box) and action.shape == (2,)
    assert np.all(action.low == -1.0) and np.all(action.high == 1.0)
    report = envs.check(env, params, num_envs=8, num_steps=12)
    assert report.terminated > 0 and report.truncated > 0


class Board(NamedTuple):
    grid: jax.Array
    step_count: jax.Array
    action_mask: jax.Array


class Puzzle:
    """Ends at its time limit with a discount of 0, as Jumanji's environments do; actions are a pair."""

    def __init__(self, time_limit=4):
        self.time_limit = time_limit
        self.action_spec = SimpleNamespace(num_values=np.array([2, 3]), dtype=jnp.int32)
        self.reward_spec = SimpleNamespace(shape=())
        self.observation_spec = SimpleNamespace(action_mask=SimpleNamespace(shape=(2, 3)))

    def reset(self, key):
        return jnp.int32(0), self.timestep(jnp.int32(0), jnp.float32(0.0))

    def step(self, state, action):
        return state + 1, self.timestep(state + 1, 10.0 * action[0] + action[1])

    def timestep(self, count, reward):
        last = count >= self.time_limit
        mask = jnp.ones((2, 3), bool).at[1, 2].set(False)
        seen = Board(jnp.full((2, 2), count), count, mask)
        return SimpleNamespace(observation=seen, reward=reward, discount=jnp.where(last, 0.0, 1.0), last=lambda: last)


def test_the_time_limits_of_jumanji_truncate(monkeypatch):
    fake = SimpleNamespace(registered_environments=lambda: {"Puzzle-v0"}, make=lambda name, **given: Puzzle(**given))
    monkeypatch.setitem(sys.modules, "jumanji", fake)
    env, params = jaxrl.make("jumanji/Puzzle-v0")
    assert params.max_steps_in_episode == 4 and env.action_space(params).num_actions == 6
    seen, state = env.reset(jax.random.key(0), params)
    assert isinstance(seen, Observation) and seen.features.shape == (2, 2)
    assert seen.action_mask.tolist() == [True] * 5 + [False]
    for time in range(4):
        seen, state, reward, terminated, truncated, info = env.step(jax.random.key(1), state, jnp.int32(5), params)
        assert reward == 12.0 and not terminated and truncated == (time == 3) and info["discount"] == 1.0
    assert info["final_observation"].features[0, 0] == 4 and seen.features[0, 0] == 0


SUITES = {
    "brax": "inverted_pendulum",
    "playground": "CartpoleBalance",
    "jumanji": "Game2048-v1",
    "craftax": "Craftax-Classic-Symbolic-v1",
    "navix": "Navix-Empty-5x5-v0",
    "xminigrid": "MiniGrid-Empty-5x5",
}


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_keeps_the_protocol(suite):
    if not ADAPTERS[suite].is_installed:
        pytest.skip(f'{suite} is not installed: pip install "jaxrl[{ADAPTERS[suite].extra}]"')
    env, params = jaxrl.make(f"{suite}/{SUITES[suite]}", max_steps_in_episode=6)
    report = envs.check(env, params, num_envs=4, num_steps=10)
    assert report.truncated > 0 and f"{suite}/{SUITES[suite]}" in envs.available(suite)


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_that_is_absent_says_how_to_install_it(suite, monkeypatch):
    monkeypatch.setitem(sys.modules, ADAPTERS[suite].package, None)
    with pytest.raises(envs.NotInstalled, match=rf'pip install "jaxrl\[{suite}\]"'):
        jaxrl.make(f"{suite}/anything")


def test_a_suite_that_cannot_be_installed_is_listed_with_the_reason():
    with pytest.raises(envs.UnknownEnvironment, match="'kinetix/s'.* pins jax<=0.9"):
        jaxrl.make("kinetix/s")
