"""A3C on paper: a delay of 0 is A2C bit for bit, and any delay is a loop that keeps its gradients in a list."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl.agents import a2c, a3c
from jaxrl.envs import make, spec
from jaxrl.networks import MLP
from jaxrl.training import train


def updates(kit, make_agent, count, **options):
    """Parameters after each update on trajectories of the first policy."""
    agent, state, _, update = kit.one_step(make_agent, **options)
    found, first = [], state
    for seed in range(count):
        state, _ = update(jax.random.key(seed), state, kit.trajectory_of(agent, first, kit.specs["discrete"], seed))
        found.append(state.params)
    return found


def test_no_delay_is_a2c_bit_for_bit(kit):
    for one, other in zip(updates(kit, a3c, 3, delay=0), updates(kit, a2c, 3), strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


def test_gradients_are_late(kit):
    """Those of the parameters at which they were computed, applied in order to what these have become.

    Plain SGD without a clip: the change that A2C makes is its gradient times the rate, wherever it is added.
    """
    plain = {"optimizer": optax.sgd, "max_grad_norm": None}
    agent, state, _, update = kit.one_step(a2c, **plain)
    first, waiting, expected = state, [], []
    for seed in range(5):
        trajectory = kit.trajectory_of(agent, first, kit.specs["discrete"], seed)
        new, _ = update(jax.random.key(seed), state, trajectory)
        waiting.append(kit.difference(new.params, state.params))
        if len(waiting) > 2:
            state = state._replace(params=jax.tree.map(jnp.add, state.params, waiting.pop(0)))
        expected.append(state.params)
    assert kit.norm(kit.difference(expected[1], first.params)) == 0.0
    for one, other in zip(updates(kit, a3c, 5, delay=2, **plain), expected, strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6), one, other)


def test_seeds_and_delays_vmap():
    env, params = make("CartPole-v1")

    def run(key, delay):
        agent = a3c(spec(env, params), torso=MLP(hidden=(8,)), delay=delay, max_delay=4)
        return train(key, agent, env, params, num_steps=256, num_envs=4, rollout_length=8)[0].agent.params

    keys, delays = jax.random.split(jax.random.key(0), 3), jnp.array([0, 1, 4])
    together = jax.jit(jax.vmap(run))(keys, delays)
    alone = jax.jit(lambda key: run(key, 4))(keys[2])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[2], y, rtol=1e-3, atol=1e-5), together, alone)


@pytest.mark.parametrize(("delay", "max_delay"), [(2, None), (0, None), (jnp.int32(5), 3)])
def test_the_learning_rate_is_that_of_the_gradient_that_arrives(kit, delay, max_delay):
    """Annealed over four gradients that arrive: the rate stays until the first one has, then falls by quarters."""

    def found(delay):
        options = {"max_delay": max_delay, "learning_rate": 1.0, "anneal_learning_rate": True, "num_updates": 4}
        agent, state, trajectory, _ = kit.one_step(a3c, delay=2 if max_delay is None else 0, **options)
        agent = a3c(kit.specs["discrete"], torso=kit.torso, delay=delay, **options)
        state, seen, update = agent.init(jax.random.key(0), 2), [], jax.jit(agent.update)
        for _ in range(6):
            state, metrics = update(jax.random.key(0), state, trajectory)
            seen.append(jnp.stack([metrics["learning_rate"], metrics["gradient_steps"]]))
        return jnp.stack(seen, axis=1)

    lag = int(delay) if max_delay is None else min(int(delay), max_delay)
    rates, arrived = found(delay) if max_delay is None else jax.jit(found)(delay)
    np.testing.assert_array_equal(arrived, [max(0, update + 1 - lag) for update in range(6)])
    np.testing.assert_allclose(rates, [max(0.0, 1.0 - max(update - lag, 0) / 4) for update in range(6)])


@pytest.mark.parametrize("options", [{"delay": -1}, {"delay": 5, "max_delay": 4}])
def test_bad_delays_are_refused_by_name(kit, options):
    with pytest.raises(ValueError, match="delay: got"):
        a3c(kit.specs["discrete"], **options)
