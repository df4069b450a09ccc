"""The default optimizers on one flat vector give the numbers that optax gives parameter by parameter."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl import optim

PARAMS = {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.array([0.5, -0.5, 2.0])}


def steps(optimizer, count=5):
    params, state = PARAMS, optimizer.init(PARAMS)
    for i in range(count):
        grads = jax.tree.map(lambda p, i=i: jnp.sin(p + i) * 3.0, params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("make", optim.elementwise.ELEMENTWISE)
@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
def test_flat_equals_tree(make, max_grad_norm):
    ours = steps(optim.clipped(make, 0.1, max_grad_norm))
    plain = make(0.1) if max_grad_norm is None else optax.chain(optax.clip_by_global_norm(max_grad_norm), make(0.1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, steps(plain))


def test_an_optimizer_of_the_users_own_sees_the_tree():
    seen = []

    def make(learning_rate):
        def update(updates, state, params=None):
            seen.append(jax.tree.structure(updates))
            return jax.tree.map(lambda g: -learning_rate * g, updates), state

        return optax.GradientTransformation(lambda params: (), update)

    steps(optim.clipped(make, 0.1), count=1)
    assert seen == [jax.tree.structure(PARAMS)]


def test_annealed_reaches_zero_and_stays():
    schedule = optim.annealed(2.0, 10)
    assert [float(schedule(i)) for i in (0, 5, 10, 11)] == [2.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_the_norm_of_half_precision_does_not_overflow(dtype):
    """(3000, 4000) has norm 5000, whose square is no float16: clipped to 0.5 it is (0.3, 0.4)."""
    gradient = {"kernel": jnp.array([3000.0, 4000.0], dtype)}
    for make in (optax.sgd, lambda rate: optax.chain(optax.sgd(rate))):
        optimizer = optim.clipped(make, 1.0, 0.5)
        step, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
        assert step["kernel"].dtype == dtype
        np.testing.assert_allclose(np.asarray(step["kernel"], float), [-0.3, -0.4], rtol=0.01)
