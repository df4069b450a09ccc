"""Heads against SciPy, a numeric change of variables, and Monte Carlo; actions against their bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxrl.networks import (
    CategoricalHead,
    DiagonalGaussian,
    GaussianHead,
    SquashedGaussian,
    environment_action,
    policy_head,
)
from jaxrl.types import Box, Discrete

LOC, SCALE = jnp.array([[0.3, -1.2], [2.0, 0.0]]), jnp.array([[0.5, 2.0], [0.1, 1.0]])


def test_masked_actions_have_no_probability_and_no_gradient():
    head = CategoricalHead(3, scale=1.0)
    x, mask = jnp.ones((2, 4)), jnp.array([[True, False, True], [False, False, True]])
    params = head.init(jax.random.key(0), x, mask)
    policy = head.apply(params, x, mask)
    np.testing.assert_array_equal(np.asarray(policy.probs)[~np.asarray(mask)], 0.0)
    np.testing.assert_allclose(policy.probs.sum(-1), 1.0, rtol=1e-6)
    samples = policy.sample(seed=jax.random.key(1), sample_shape=(500,))
    assert set(np.asarray(samples[:, 0])) == {0, 2} and set(np.asarray(samples[:, 1])) == {2}
    assert np.asarray(policy.mode())[1] == 2
    np.testing.assert_allclose(policy.entropy()[1], 0.0, atol=1e-6)
    gradient = jax.grad(lambda p: head.apply(p, x, mask).entropy().sum())(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    np.testing.assert_array_equal(gradient["params"]["NarrowDense_0"]["kernel"][1], 0.0)


def test_gaussian_log_prob_and_entropy_are_scipys():
    raw = jnp.array([[0.1, 0.2], [1.9, -3.0]])
    policy = DiagonalGaussian(LOC, SCALE)
    np.testing.assert_allclose(policy.log_prob(raw), stats.norm(LOC, SCALE).logpdf(raw).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(policy.entropy(), stats.norm(LOC, SCALE).entropy().sum(-1), rtol=1e-5)


def test_squashed_density_integrates_to_one_and_changes_variables():
    policy = SquashedGaussian(jnp.array([0.3]), jnp.array([0.7]))

    def density(action):
        return float(jnp.exp(policy.log_prob(jnp.arctanh(jnp.array([action], jnp.float32)))))

    actions = np.linspace(-0.999, 0.999, 2001)
    values = np.exp(np.asarray(jax.vmap(policy.log_prob)(jnp.arctanh(jnp.asarray(actions, jnp.float32))[:, None])))
    np.testing.assert_allclose(integrate.trapezoid(values, actions), 1.0, atol=2e-3)
    by_hand = stats.norm(0.3, 0.7).pdf(np.arctanh(0.5)) / (1 - 0.5**2)
    np.testing.assert_allclose(density(0.5), by_hand, rtol=1e-4)


def test_squashed_log_prob_survives_saturation():
    policy = SquashedGaussian(jnp.zeros(1), jnp.ones(1))
    value, gradient = jax.value_and_grad(lambda x: policy.log_prob(x))(jnp.array([40.0]))
    assert np.isfinite(value) and np.isfinite(gradient).all()
    # log N(40) - log(1 - tanh^2) = -800 - 0.919 - (2 log 2 - 80)
    np.testing.assert_allclose(value, -800.919 - (1.3863 - 80.0), rtol=1e-4)


def test_squashed_entropy_is_the_monte_carlo_mean():
    policy = SquashedGaussian(LOC, SCALE)
    with jax.numpy_rank_promotion("allow"):
        samples = policy.sample(seed=jax.random.key(0), sample_shape=(400_000,))
        expected = -policy.log_prob(samples).mean(0)
    np.testing.assert_allclose(policy.entropy(), expected, atol=0.02)


@pytest.mark.parametrize("state_dependent", [False, True])
def test_gaussian_head_starts_at_the_given_deviation(state_dependent):
    head = GaussianHead(2, state_dependent_std=state_dependent, initial_log_std=-1.0)
    x = jax.random.normal(jax.random.key(0), (5, 3))
    params = head.init(jax.random.key(1), x)
    scale = np.asarray(head.apply(params, x).scale_diag)
    np.testing.assert_allclose(scale, np.exp(-1.0), rtol=0.05)
    assert (np.ptp(scale, axis=0) > 0).all() == state_dependent


def test_actions_are_rescaled_to_their_bounds_once():
    box = Box((2,), np.array([-1.0, 0.0], np.float32), np.array([3.0, 10.0], np.float32))
    raw = jnp.array([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0], [-5.0, 7.0]])
    np.testing.assert_allclose(environment_action(box, raw), [[-1, 0], [1, 5], [3, 10], [-1, 10]])
    squashed = environment_action(box, raw, squash=True)
    np.testing.assert_allclose(squashed[1], [1, 5])
    np.testing.assert_allclose(squashed[2, 0], 1 + 2 * np.tanh(1.0), rtol=1e-6)


def test_unbounded_sides_are_left_alone_and_half_bounds_clip():
    box = Box((3,), np.array([-np.inf, -np.inf, 0.0]), np.array([np.inf, 1.0, np.inf]))
    got = environment_action(box, jnp.array([[-7.0, 5.0, -5.0], [9.0, -2.0, 4.0]]))
    np.testing.assert_allclose(got, [[-7, 1, 0], [9, -2, 4]])


def test_scalar_and_matrix_shaped_boxes():
    assert environment_action(Box((), -2.0, 2.0), jnp.zeros((4, 1))).shape == (4,)
    assert environment_action(Box((2, 3), -2.0, 2.0), jnp.zeros((4, 6))).shape == (4, 2, 3)
    assert isinstance(policy_head(Discrete(3)), CategoricalHead)
    assert policy_head(Box((2, 3), -1.0, 1.0)).size == 6
