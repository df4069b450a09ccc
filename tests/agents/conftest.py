"""What tests of the on-policy recipes share: recipes that take one gradient step on a random trajectory."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

from jaxrl.agents import ppo
from jaxrl.networks import MLP
from jaxrl.rollout import reset, rollout
from jaxrl.types import Box, Discrete, Spec, Transition

T, B, D = 8, 2, 3
VECTOR = jax.ShapeDtypeStruct((D,), jnp.float32)
SPECS = {"discrete": Spec(VECTOR, Discrete(4)), "continuous": Spec(VECTOR, Box((2,), -1.0, 1.0))}
TINY = MLP(hidden=(6,))


def norm(tree):
    return np.sqrt(sum((np.asarray(x, np.float64) ** 2).sum() for x in jax.tree.leaves(tree)))


def difference(new, old):
    return jax.tree.map(lambda x, y: np.asarray(x, np.float64) - np.asarray(y, np.float64), new, old)


def trajectory_of(agent, state, described, seed=0):
    """A trajectory of random observations and rewards, acted on by the agent itself."""
    rng = np.random.default_rng(seed)
    observation = jnp.array(rng.normal(2.0, 3.0, size=(T, B, D)), jnp.float32)
    keys = jax.random.split(jax.random.key(seed), T)
    action, extras = jax.jit(jax.vmap(agent.act, in_axes=(0, None, 0)))(keys, state, observation)
    terminated, truncated = rng.random((2, T, B)) < 0.2
    return Transition(
        observation=observation,
        action=action,
        reward=jnp.array(rng.normal(size=(T, B)), jnp.float32),
        discount=jnp.array(1.0 - terminated, jnp.float32),
        terminated=jnp.array(terminated),
        truncated=jnp.array(truncated),
        next_observation=jnp.array(rng.normal(2.0, 3.0, size=(T, B, D)), jnp.float32),
        extras=extras,
    )


def one_step(make=ppo, kind="discrete", **options):
    """An agent of one gradient step an update, its state, a trajectory, and the jitted update."""
    described = SPECS[kind]
    single = {"num_epochs": 1, "num_minibatches": 1} if make is ppo else {}
    agent = make(described, torso=TINY, **{**single, **options})
    state = agent.init(jax.random.key(0), B)
    return agent, state, trajectory_of(agent, state, described), jax.jit(agent.update)


class Kit(NamedTuple):
    """What tests take from here, for test modules cannot import one another."""

    specs: Any = SPECS
    torso: Any = TINY
    norm: Any = norm
    difference: Any = difference
    trajectory_of: Any = trajectory_of
    one_step: Any = one_step


@pytest.fixture(scope="session")
def kit():
    return Kit()


@pytest.fixture
def primitives():
    """``(jaxpr, inside=False)``: names of what is computed always, or with inside=True in conditionals too."""

    def names(jaxpr, inside=False):
        found = set()
        for equation in jaxpr.eqns:
            found.add(equation.primitive.name)
            if inside or equation.primitive.name != "cond":
                for inner in jaxprs_in_params(equation.params):
                    found |= names(inner, inside)
        return found

    return names


@pytest.fixture
def primitives_of_population(primitives):
    """``(agent, env, params)``: what an update of two vmapped members computes always, and in conditionals too."""

    def found(agent, env, params):
        key = jax.random.key(0)
        keys = jax.random.split(key, 2)
        states = jax.eval_shape(jax.vmap(lambda key: agent.init(key, 2)), keys)
        observation, env_state = reset(key, env, params, 2)
        trajectory = jax.eval_shape(
            lambda key: rollout(key, agent, agent.init(key, 2), env, params, env_state, observation, 2)[2], key
        )
        traced = jax.make_jaxpr(jax.vmap(agent.update, (0, 0, None)))(keys, states, trajectory)
        return primitives(traced.jaxpr), primitives(traced.jaxpr, inside=True)

    return found
