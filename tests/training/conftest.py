"""A small environment with known returns, a small agent with known numbers, and PPO on CartPole, compiled once."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import envs, networks
from jaxrl.agents import ppo
from jaxrl.training import Program, fit
from jaxrl.types import Agent, Transition


class CountdownParams(NamedTuple):
    max_steps_in_episode: int = 100
    shortest: int = 1
    longest: int = 5


class CountdownState(NamedTuple):
    time: Any
    length: Any
    key: Any
    empty: Any


class Countdown:
    """Lasts as many steps as drawn at its start, or up to the time limit; step t pays t, from 1 on.

    Its observation is (step, length); its state holds a typed key and an array of no elements.
    """

    default_params = CountdownParams()

    def reset(self, key: Any, params: CountdownParams) -> tuple[Any, CountdownState]:
        draw, key = jax.random.split(key)
        length = jax.random.randint(draw, (), params.shortest, params.longest + 1)
        state = CountdownState(jnp.zeros((), jnp.int32), length, key, jnp.zeros((0, 3)))
        return self.observe(state), state

    def observe(self, state: CountdownState) -> Any:
        return jnp.stack([state.time, state.length]).astype(jnp.float32)

    def step(self, key: Any, state: CountdownState, action: Any, params: CountdownParams) -> tuple[Any, ...]:
        stepped = state._replace(time=state.time + 1, key=jax.random.fold_in(state.key, 1))
        terminated = stepped.time >= stepped.length
        truncated = stepped.time >= params.max_steps_in_episode
        observation, fresh = self.reset(key, params)
        final = self.observe(stepped)
        done = terminated | truncated
        new = jax.tree.map(lambda reset, going: jnp.where(done, reset, going), fresh, stepped)
        info = {"final_observation": final}
        return jnp.where(done, observation, final), new, stepped.time, terminated, truncated, info


class CounterState(NamedTuple):
    params: Any
    target: Any
    updates: Any
    per_env: Any


def counter(scale: Any = 1.0, breaks_at: Any = -1.0) -> Agent:
    """An agent that counts its updates and walks at random; ``loss`` is NaN at the update ``breaks_at``."""

    def init(key: Any, num_envs: int = 1) -> CounterState:
        params = jax.random.normal(key, (3,))
        return CounterState(params, params, jnp.zeros((), jnp.int32), jnp.zeros((num_envs, 0)))

    def act(key: Any, state: CounterState, observation: Any, *, explore: bool = True) -> tuple[Any, Any]:
        shape = observation.shape[:1]
        return (jax.random.randint(key, shape, 1, 100) if explore else jnp.zeros(shape, jnp.int32)), ()

    def update(key: Any, state: CounterState, trajectory: Transition) -> tuple[CounterState, dict[str, Any]]:
        params = 0.9 * state.params + scale * jax.random.normal(key, (3,)) + trajectory.reward.mean()
        loss = jnp.where(state.updates == breaks_at, jnp.nan, params.sum())
        new = CounterState(params, state.params, state.updates + 1, state.per_env)
        return new, {"loss": loss, "updates": new.updates}

    return Agent(init, act, update)


def to_numpy(tree: Any) -> list[np.ndarray]:
    """The leaves of a tree as NumPy arrays, keys as their data."""
    data = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x  # noqa: E731
    return [np.array(data(jnp.asarray(leaf))) for leaf in jax.tree.leaves(tree)]


class Toys(NamedTuple):
    """What tests take from here, for test modules cannot import one another."""

    env: Any = Countdown()
    params: Any = CountdownParams()
    make_params: Any = CountdownParams
    make_agent: Any = staticmethod(counter)

    @staticmethod
    def assert_same(left: Any, right: Any) -> None:
        """Bit for bit, the structure included."""
        assert jax.tree.structure(left) == jax.tree.structure(right)
        for x, y in zip(to_numpy(left), to_numpy(right), strict=True):
            assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())

    @staticmethod
    def assert_close(left: Any, right: Any) -> None:
        """Up to rounding, for two programs of the same equations."""
        assert jax.tree.structure(left) == jax.tree.structure(right)
        for x, y in zip(to_numpy(left), to_numpy(right), strict=True):
            np.testing.assert_allclose(x, y, rtol=2e-3, atol=2e-4)

    @staticmethod
    def copy(state: Any) -> Any:
        """A state whose buffers may be donated."""
        return jax.tree.map(jnp.copy, state)


@pytest.fixture(scope="session")
def toys() -> Toys:
    return Toys()


class Population(NamedTuple):
    """A population and its unbroken run."""

    program: Program
    num_updates: int
    state: Any
    metrics: Any


@pytest.fixture(scope="session")
def walkers(toys: Toys) -> Population:
    """Three toy agents with scales of their own, 9 updates in one chunk."""
    keys = jax.random.split(jax.random.key(0), 3)
    hyper = {"scale": np.array([0.1, 1.0, 100.0], np.float32)}
    program = Program(toys.make_agent, toys.env, toys.params, keys, hyper=hyper, num_envs=4, rollout_length=5)
    return Population(program, 9, *fit(program, num_updates=9, updates_per_chunk=9))


class CartPole(NamedTuple):
    env: Any
    params: Any
    make_agent: Any
    num_envs: int
    rollout_length: int


@pytest.fixture(scope="session")
def cartpole() -> CartPole:
    env, params = envs.make("CartPole-v1")
    make_agent = partial(ppo, envs.spec(env, params), torso=networks.MLP((8,)), normalize_observation=True)
    return CartPole(env, params, partial(make_agent, normalize_reward=True, num_epochs=2), 4, 16)


@pytest.fixture(scope="session")
def learners(cartpole: CartPole) -> Population:
    """PPO: two seeds with a learning rate each, 6 updates in one chunk."""
    program = Program(
        cartpole.make_agent,
        cartpole.env,
        cartpole.params,
        jax.random.split(jax.random.key(1), 2),
        hyper={"learning_rate": np.array([1e-3, 1e-2], np.float32)},
        num_envs=cartpole.num_envs,
        rollout_length=cartpole.rollout_length,
    )
    return Population(program, 6, *fit(program, num_updates=6, updates_per_chunk=6))
