"""A phase that is not due costs nothing, for a vmapped population either: executions are counted."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl import agents, envs
from jaxrl.agents.parts.when import when
from jaxrl.envs import probes
from jaxrl.networks import MLP
from jaxrl.training.loop import start, train_step

SEEDS = jax.random.split(jax.random.key(0), 8)


class Counter:
    """Counts executions of a piece of a program, not its traces."""

    def __init__(self):
        self.counts = {}

    def mark(self, name):
        def add():
            self.counts[name] = self.counts.get(name, 0) + 1

        jax.debug.callback(add)

    def of(self, function, *args):
        self.counts = {}
        result = jax.block_until_ready(function(*args))
        jax.effects_barrier()
        return result, dict(self.counts)


def halved_or_added(counter):
    def halved(x):
        counter.mark("true")
        return x / 2.0

    def added(x):
        counter.mark("false")
        return x + 1.0

    return lambda predicate, x: when(predicate, halved, added, x)


@pytest.mark.parametrize(
    ("predicate", "counted"),
    [
        ([True] * 3, {"true": 1}),
        ([False] * 3, {"false": 1}),
        ([True, False, True], {"true": 1, "false": 1}),
    ],
    ids=["all", "none", "some"],
)
def test_a_population_computes_what_some_member_needs(predicate, counted):
    counter, x = Counter(), jnp.arange(3.0)
    function = jax.jit(jax.vmap(halved_or_added(counter)))
    result, counts = counter.of(function, jnp.array(predicate), x)
    np.testing.assert_array_equal(result, np.where(predicate, x / 2.0, x + 1.0))
    assert counts == counted
    # One member alone, a population of populations, and one whose predicate is shared.
    for index, flag in enumerate(predicate):
        one, counts = counter.of(jax.jit(halved_or_added(counter)), jnp.array(flag), x[index])
        assert one == result[index] and counts == ({"true": 1} if flag else {"false": 1})
    nested = jax.jit(jax.vmap(jax.vmap(halved_or_added(counter), (0, None)), (None, 0)))
    both, counts = counter.of(nested, jnp.array(predicate), x)
    np.testing.assert_array_equal(both, np.where(np.array(predicate)[None], x[:, None] / 2.0, x[:, None] + 1.0))
    assert counts == counted
    shared, counts = counter.of(jax.jit(jax.vmap(halved_or_added(counter), (None, 0))), jnp.array(predicate[0]), x)
    np.testing.assert_array_equal(shared, x / 2.0 if predicate[0] else x + 1.0)
    assert counts == ({"true": 1} if predicate[0] else {"false": 1})


def counted_adam(counter, rate):
    """Adam, and a count of its steps that were executed."""
    adam = optax.adam(rate)

    def update(grads, state, params=None):
        counter.mark("step")
        return adam.update(grads, state, params)

    return optax.GradientTransformation(adam.init, update)


WARM = {"torso": MLP(hidden=(4,)), "replay_capacity": 64, "batch_size": 4, "learning_starts": 12}


@pytest.mark.parametrize(
    ("recipe", "of_actions", "options"),
    [
        (agents.dqn, "discrete", WARM),
        (agents.td3, "continuous", WARM),
        (agents.alphazero, "planned", {**WARM, "num_simulations": 2, "num_gradient_steps": 1}),
    ],
    ids=["dqn", "td3", "alphazero"],
)
def test_eight_seeds_take_no_gradient_steps_until_learning_starts(recipe, of_actions, options):
    """Two environments and two steps an update: learning starts with the third; alone or together."""
    counter = Counter()
    env = probes.DiscountProbe(continuous=of_actions == "continuous")
    if of_actions == "planned":
        env = envs.expose_state(env)
        options = {**options, "model": envs.simulator(env, env.default_params)}
    agent = recipe(envs.spec(env, env.default_params), optimizer=partial(counted_adam, counter), **options)

    started = jax.vmap(lambda key: start(key, agent, env, env.default_params, 2))(SEEDS)
    step = partial(train_step, agent=agent, env=env, params=env.default_params, rollout_length=2)
    together = jax.jit(jax.vmap(lambda key, state: step(key, state=state)[0]))
    alone = jax.jit(lambda key, state: step(key, state=state)[0])
    state, one = started, jax.tree.map(lambda x: x[0], started)
    for due in (0, 0, 1, 2 if recipe is agents.td3 else 1, 1):  # td3's actor moves at every second step
        state, counts = counter.of(together, SEEDS, state)
        assert counts.get("step", 0) == due
        one, counts = counter.of(alone, SEEDS[0], one)
        assert counts.get("step", 0) == due
    assert np.all(np.asarray(state.agent.gradient_steps) == 3)
    for leaf, leaves in zip(jax.tree.leaves(one.agent.params), jax.tree.leaves(state.agent.params), strict=True):
        np.testing.assert_allclose(leaf, leaves[0], rtol=1e-4, atol=1e-5)
