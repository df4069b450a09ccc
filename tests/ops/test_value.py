"""Value terms against NumPy loops and rlax, and the gradients that training sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from jaxrl.ops import value


@pytest.fixture(scope="module")
def samples():
    """Values, old values, targets: [64] each."""
    return np.random.default_rng(0).normal(scale=2.0, size=(3, 64)).astype(np.float32)


def test_squared_error(samples):
    v, _, target = samples
    np.testing.assert_allclose(value.squared_error_term(v, target), rlax.l2_loss(v, target), rtol=1e-6)
    assert value.squared_error_term(jnp.array(5.0), jnp.array(2.0)) == 4.5


def test_clipped_value_against_a_loop(samples):
    expected = []
    for v, old, target in samples.T.astype(float):
        clipped = min(max(v, old - 0.5), old + 0.5)
        expected.append(max((v - target) ** 2, (clipped - target) ** 2) / 2)
    np.testing.assert_allclose(value.clipped_value_term(*samples, 0.5), expected, rtol=1e-5, atol=1e-6)


def test_clipped_value_gradient():
    """v_old = 0, eps = 1. Moved past eps towards the target: flat. Away from it, or within eps: v - target."""
    v, target = jnp.array([3.0, -3.0, 0.5]), jnp.array([4.0, 4.0, 4.0])
    gradient = jax.grad(lambda v: value.clipped_value_term(v, jnp.zeros(3), target, 1.0).sum())(v)
    assert gradient.tolist() == [0.0, -7.0, -3.5]


def test_huber_against_rlax(samples):
    v, _, target = samples
    for delta in (0.3, 1.0, 2.5):
        np.testing.assert_allclose(value.huber_term(v, target, delta), rlax.huber_loss(v - target, delta), rtol=1e-5)


def test_huber_gradient_is_the_clipped_error():
    v = jnp.array([-3.0, -2.0, -0.5, 0.0, 0.5, 2.0, 3.0])
    gradient = jax.grad(lambda v: value.huber_term(v, jnp.zeros(7), 2.0).sum())(v)
    assert gradient.tolist() == [-2.0, -2.0, -0.5, 0.0, 0.5, 2.0, 2.0]


def test_targets_are_constants(samples):
    """A gradient through the target would make the value chase itself both ways."""
    v, old, target = samples

    def total(old, target):
        terms = value.squared_error_term(v, target) + value.huber_term(v, target)
        return (terms + value.clipped_value_term(v, old, target, 0.5)).sum()

    assert not any(gradient.any() for gradient in jax.grad(total, (0, 1))(old, target))


def test_thresholds_may_be_traced(samples):
    v, old, target = samples

    def of_threshold(x):
        return value.huber_term(v, target, x) + value.clipped_value_term(v, old, target, x)

    swept = jax.jit(jax.vmap(of_threshold))(jnp.array([0.5, 2.0]))
    for x, row in zip([0.5, 2.0], swept, strict=True):
        np.testing.assert_allclose(row, of_threshold(x), rtol=1e-5, atol=1e-6)


class TestExplainedVariance:
    def test_against_numpy(self, samples):
        v, _, target = samples.reshape(3, 8, 8)
        expected = 1 - np.var(target.astype(float) - v) / np.var(target.astype(float))
        np.testing.assert_allclose(jax.jit(value.explained_variance)(v, target), expected, rtol=1e-5)

    def test_perfect_constant_and_worse(self):
        target = jnp.array([1.0, 2.0, 3.0])
        assert value.explained_variance(target, target) == 1.0
        assert value.explained_variance(jnp.full(3, 7.0), target) == 0.0
        # Var([2, 0, -2] * 1) = 4 Var(target): predictions upside down leave four times the variance.
        np.testing.assert_allclose(value.explained_variance(-target, target), -3.0, rtol=1e-6)

    @pytest.mark.parametrize("constant", [0.0, 0.1, -1234.567])
    def test_equal_targets_give_0(self, constant):
        """0.1 is the case: its mean over 1000 is not 0.1 in float32, and the ratio of two roundings is anything."""
        predictions = np.random.default_rng(0).normal(size=1000).astype(np.float32)
        assert value.explained_variance(predictions, jnp.full(1000, constant)) == 0.0
