"""Late gradients against a plain loop that keeps them in a list."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl import optim

STEPS = 9
START = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(0.5)}
INNERS = {"sgd": lambda: optax.sgd(0.1), "adam": lambda: optax.adam(0.1), "rmsprop": lambda: optim.RMSPROP(0.1)}


def gradient(params, t):
    """Of a quadratic whose slope changes, so that every gradient is another one."""
    return jax.tree.map(lambda p: p + jnp.sin(1.0 + t), params)


def path(optimizer, steps=STEPS):
    """The parameters after each update."""

    def step(carry, t):
        params, state = carry
        updates, state = optimizer.update(gradient(params, t), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (START, optimizer.init(START)), jnp.arange(steps))[1]


def slow_path(k, inner, steps=STEPS):
    """The same in Python: a gradient waits in a list until k others have come."""
    params, state, waiting, found = START, inner.init(START), [], []
    for t in range(steps):
        waiting.append(gradient(params, t))
        if len(waiting) > k:
            updates, state = inner.update(waiting.pop(0), state, params)
            params = optax.apply_updates(params, updates)
        found.append(params)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *found)


def close(one, other):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), one, other)


@pytest.mark.parametrize("name", INNERS)
@pytest.mark.parametrize("k", [0, 1, 3, 8])
def test_against_a_list(k, name):
    close(jax.jit(lambda: path(optim.delayed(k, INNERS[name]())))(), slow_path(k, INNERS[name]()))


@pytest.mark.parametrize("max_delay", [None, 5])
def test_no_delay_is_the_optimizer_bit_for_bit(max_delay):
    late = jax.jit(lambda: path(optim.delayed(0, optax.adam(0.1), max_delay=max_delay)))()
    now = jax.jit(lambda: path(optax.adam(0.1)))()
    jax.tree.map(np.testing.assert_array_equal, late, now)


def test_a_delay_may_be_a_tracer_up_to_its_bound():
    delays = jnp.arange(5)
    together = jax.jit(jax.vmap(lambda k: path(optim.delayed(k, optax.adam(0.1), max_delay=4))))(delays)
    for k in range(5):
        close(jax.tree.map(lambda x, k=k: x[k], together), slow_path(k, optax.adam(0.1)))


def test_alone_it_hands_on_late_gradients_and_zeros_before():
    optimizer = optim.delayed(2)
    state, seen = optimizer.init(jnp.zeros(())), []
    for t in range(5):
        updates, state = optimizer.update(jnp.asarray(10.0 + t), state)
        seen.append(float(updates))
    assert seen == [0.0, 0.0, 10.0, 11.0, 12.0]


def test_what_is_broken_on_the_way_stays_where_it_is():
    """A NaN that waits reaches no update but its own."""
    optimizer = optim.delayed(2, max_delay=3)
    state, seen = optimizer.init(jnp.zeros(())), []
    for value in (1.0, np.nan, 3.0, 4.0, 5.0):
        updates, state = optimizer.update(jnp.asarray(value), state)
        seen.append(float(updates))
    np.testing.assert_array_equal(seen, [0.0, 0.0, 1.0, np.nan, 3.0])


def test_without_a_delay_nothing_is_kept():
    assert optim.delayed(0).init(START).ring == ()
    assert optim.delayed(3).init(START).ring["a"].shape == (3, 2)


@pytest.mark.parametrize(
    ("k", "options", "error", "message"),
    [
        (-1, {}, ValueError, "delay: got -1, must be at least 0"),
        (1.5, {}, TypeError, "delay: got 1.5, must be an integer"),
        (True, {}, TypeError, "delay: got True, must be an integer"),
        (4, {"max_delay": 3}, ValueError, "delay: got 4, must be at most max_delay=3"),
        (1, {"max_delay": 2.0}, TypeError, "max_delay: got 2.0, must be an integer"),
    ],
)
def test_bad_delays_are_refused_by_name(k, options, error, message):
    with pytest.raises(error, match=message):
        optim.delayed(k, **options)


def test_a_tracer_needs_a_bound():
    with pytest.raises(ValueError, match="max_delay: got None, must be the number of gradients to keep"):
        jax.vmap(lambda k: optim.delayed(k).init(jnp.zeros(())))(jnp.arange(2))
