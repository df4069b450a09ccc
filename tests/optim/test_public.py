"""Every public function of optim at the edges of every float dtype: one row each."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrl import optim

from ..edges import DTYPES, FEW, Row, check, covered, finite, public, within

BOUND, RATE, NORM = 0.01, 0.125, 0.5


def updates(optimizer, *gradients, **extra):
    """The updates on gradients that follow each other, from parameters of 0."""
    params = jax.tree.map(jnp.zeros_like, gradients[0])
    state, found = optimizer.init(params), []
    for gradient in gradients:
        update, state = optimizer.update(gradient, state, params, **extra)
        found.append(update)
    return found


def clipped(r, v):
    gradient = {"kernel": r, "bias": v}
    makers = (optax.sgd, optim.ADAM, optim.RMSPROP, lambda rate: optax.chain(optax.sgd(rate)))
    return [updates(optim.clipped(make, RATE, NORM), gradient)[0] for make in makers]


def of_norm(result, r, v):
    """The clip leaves a direction of norm ``NORM``, or the gradient as it is."""
    finite(result)
    size = np.sqrt(sum(float((np.asarray(x, float) ** 2).sum()) for x in (r, v)))
    wanted = RATE * min(size, NORM)
    for step in (result[0], result[-1]):
        norm = np.sqrt(sum(float((np.asarray(x, float) ** 2).sum()) for x in step.values()))
        small = float(jnp.finfo(r.dtype).tiny) * 64 + 1e-3
        np.testing.assert_allclose(norm, wanted, rtol=0.02, atol=small)


def divergence(there):
    return 0.5 * jnp.vdot(there, there)


def downhill(optimizer):
    """Down a plane, whose gradient it is, within a bound on the squared length of the step."""

    def call(v):
        return updates(optimizer, v, value_fn=lambda there: jnp.vdot(v, there), divergence_fn=divergence)[0]

    return call


def within_bound(step, v):
    finite(step)
    step, v = np.asarray(step, float), np.asarray(v, float)
    assert 0.5 * (step**2).sum() <= 1.05 * BOUND and (np.sign(step) * np.sign(v) <= 0).all()


def one_and_a_half(product, at, v):
    del at
    tiny = 4.0 * float(jnp.finfo(v.dtype).tiny)
    np.testing.assert_allclose(np.asarray(product, float), 1.5 * np.asarray(v, float), rtol=0.02, atol=tiny)


ROWS = {
    "annealed": Row("a", lambda steps: optim.annealed(1e-3, 3, 1)(steps), within(0.0, 1.001e-3), dtype="float32"),
    "rate_at": Row(
        "a", lambda steps: optim.rate_at(optim.annealed(1e-3, 3), steps), within(0.0, 1.001e-3), dtype="float32"
    ),
    "averaged": Row(
        "r",
        lambda r: updates(optim.averaged(optax.sgd(1.0)), r)[0],
        lambda step, r: np.testing.assert_array_equal(step, -r),
    ),
    "clipped": Row("rv", clipped, of_norm, power=0.45, oracle=False),
    "delayed": Row(
        "rr",
        lambda *x: updates(optim.delayed(1, optax.sgd(1.0)), *x),
        lambda steps, r, _: np.testing.assert_array_equal(steps, np.stack([np.zeros(r.shape), -np.asarray(r, float)])),
    ),
    "fisher_vector_product": Row(
        "vv", lambda at, v: optim.fisher_vector_product(divergence, at, 0.5)(v), one_and_a_half, share=0.25
    ),
    "natural_gradient": Row("v", downhill(optim.natural_gradient(BOUND)), within_bound, oracle=False),
    "backtrack": Row("v", downhill(optax.chain(optax.scale(-1.0), optim.backtrack(BOUND))), within_bound, oracle=False),
    "trust_region": Row("v", downhill(optim.trust_region(BOUND)), within_bound, oracle=False),
}


def test_every_public_function_has_a_row():
    assert covered(ROWS) == public(optim)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ROWS)
@FEW
@given(data=st.data())
def test_at_the_edges_of_its_dtype(name, dtype, data):
    check(ROWS[name], dtype, data)
