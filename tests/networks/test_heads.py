"""Heads and their distributions: against SciPy, numeric change of variables, and Monte Carlo."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl.networks import (
    CategoricalHead,
    DiagonalGaussian,
    GaussianHead,
    SquashedGaussian,
    ValueHead,
    environment_action,
    policy_head,
)
from jaxrl.types import Box, Discrete

X = jax.random.normal(jax.random.key(7), (50, 6))


class TestCategorical:
    MASK = jnp.array([True, False, True, False])

    def head(self, scale=1.0):
        head = CategoricalHead(4, scale=scale)
        return head, head.init(jax.random.key(0), X)

    def test_illegal_actions_have_no_probability(self):
        head, params = self.head()
        policy = head.apply(params, X, jnp.broadcast_to(self.MASK, (50, 4)))
        assert np.asarray(policy.probs)[:, ~np.asarray(self.MASK)].max() == 0.0
        np.testing.assert_allclose(policy.probs.sum(-1), 1.0, rtol=1e-6)
        samples = policy.sample(seed=jax.random.key(1), sample_shape=(2000,))
        assert set(np.unique(samples)) == {0, 2}
        assert set(np.unique(policy.mode())) <= {0, 2}

    def test_legal_actions_keep_their_odds(self):
        head, params = self.head()
        free, masked = head.apply(params, X), head.apply(params, X, jnp.broadcast_to(self.MASK, (50, 4)))
        odds = lambda policy: policy.probs[:, 0] / policy.probs[:, 2]  # noqa: E731
        np.testing.assert_allclose(odds(masked), odds(free), rtol=1e-4)

    def test_entropy_counts_legal_actions_alone_and_its_gradient_is_finite(self):
        head, params = self.head(scale=0.0)
        mask = jnp.broadcast_to(self.MASK, (50, 4))
        np.testing.assert_allclose(head.apply(params, X, mask).entropy(), np.log(2), rtol=1e-5)
        one_legal = jnp.broadcast_to(jnp.array([False, False, True, False]), (50, 4))
        for legal in (mask, one_legal):
            entropy = lambda params, legal=legal: head.apply(params, X, legal).entropy().sum()  # noqa: E731
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.grad(entropy)(params)))
        np.testing.assert_allclose(head.apply(params, X, one_legal).entropy(), 0.0, atol=1e-6)

    def test_starts_nearly_uniform(self):
        head, params = self.head(scale=CategoricalHead(4).scale)
        np.testing.assert_allclose(head.apply(params, X).probs, 0.25, atol=0.02)


class TestGaussian:
    MEAN, STD = jnp.array([[0.5, -1.0]]), jnp.array([[0.3, 2.0]])

    def test_log_prob_against_scipy(self):
        x = np.array([[0.1, 0.7]])
        expected = scipy.stats.norm.logpdf(x, self.MEAN, self.STD).sum(-1)
        np.testing.assert_allclose(DiagonalGaussian(self.MEAN, self.STD).log_prob(jnp.array(x)), expected, rtol=1e-5)

    def test_entropy_against_scipy(self):
        expected = scipy.stats.norm(self.MEAN, self.STD).entropy().sum(-1)
        np.testing.assert_allclose(DiagonalGaussian(self.MEAN, self.STD).entropy(), expected, rtol=1e-5)

    def test_squashed_log_prob_is_the_density_of_the_tanh(self):
        """Numeric change of variables: probabilities of small intervals of y = tanh(x), over their widths."""
        mean, std = jnp.array([[0.4]]), jnp.array([[0.8]])
        policy = SquashedGaussian(mean, std)
        for y in (-0.9, -0.2, 0.0, 0.5, 0.97):
            low, high = np.arctanh(y - 1e-5), np.arctanh(y + 1e-5)
            mass = scipy.stats.norm.cdf(high, 0.4, 0.8) - scipy.stats.norm.cdf(low, 0.4, 0.8)
            found = policy.log_prob(jnp.array([[np.arctanh(y)]], jnp.float32))
            np.testing.assert_allclose(found, np.log(mass / 2e-5), atol=1e-3)

    def test_squashed_density_integrates_to_1(self):
        policy = SquashedGaussian(jnp.array([0.4]), jnp.array([0.8]))
        y = np.linspace(-1, 1, 20_003)[1:-1]
        density = np.exp(jax.vmap(policy.log_prob)(jnp.array(np.arctanh(y), jnp.float32)[:, None]))
        np.testing.assert_allclose(np.trapezoid(density, y), 1.0, atol=1e-3)

    def test_squashed_sample_and_log_prob_agree(self):
        policy = SquashedGaussian(jnp.full((5, 2), 0.4), jnp.full((5, 2), 0.8))
        sample, log_prob = policy.sample_and_log_prob(seed=jax.random.key(0))
        np.testing.assert_allclose(log_prob, policy.log_prob(sample), rtol=1e-5)

    def test_squashed_log_prob_of_a_saturated_action_is_finite(self):
        policy = SquashedGaussian(jnp.zeros(1), jnp.ones(1))
        for x in (-40.0, 40.0):
            value, slope = jax.value_and_grad(lambda x: policy.log_prob(x).sum())(jnp.array([x]))
            assert np.isfinite(value) and np.isfinite(slope).all()

    @pytest.mark.parametrize(("mean", "std"), [(0.0, 0.1), (0.0, 1.0), (1.5, 0.5), (-2.0, 1.0)])
    def test_squashed_entropy_against_monte_carlo(self, mean, std):
        policy = SquashedGaussian(jnp.full((2,), mean), jnp.full((2,), std))
        samples = mean + std * jax.random.normal(jax.random.key(0), (400_000, 2))
        estimate = -jax.vmap(policy.log_prob)(samples)
        error = float(estimate.std() / 400_000**0.5)
        np.testing.assert_allclose(policy.entropy(), estimate.mean(), atol=5 * error + 1e-3)

    def test_squashed_entropy_has_a_gradient(self):
        """Without the slope term more deviation always means more entropy; squashed, it pushes mass to the ends."""
        slope = jax.grad(lambda std: SquashedGaussian(jnp.zeros((1, 1)), std).entropy().sum())
        assert slope(jnp.array([[0.1]])) > 0.0
        assert slope(jnp.array([[2.0]])) < 0.0

    @pytest.mark.parametrize("dependent", [False, True])
    def test_head(self, dependent):
        head = GaussianHead(3, state_dependent_std=dependent, initial_log_std=-0.5, squash=False)
        params = head.init(jax.random.key(0), X)
        policy = head.apply(params, X)
        assert policy.batch_shape == (50,) and policy.event_shape == (3,)
        np.testing.assert_allclose(policy.stddev(), np.exp(-0.5), rtol=0.1 if dependent else 1e-6)
        moved = jax.tree.map(lambda x: x + 0.2, params)
        spread = np.asarray(head.apply(moved, X).stddev()).std(0).max()
        assert (spread > 1e-3) == dependent

    def test_initial_log_std_may_be_traced(self):
        def std(start):
            head = GaussianHead(1, initial_log_std=start)
            return head.apply(head.init(jax.random.key(0), X[:1]), X[:1]).stddev()[0, 0]

        np.testing.assert_allclose(jax.vmap(std)(jnp.array([-1.0, 0.5])), np.exp([-1.0, 0.5]), rtol=1e-6)


def test_value_head():
    head = ValueHead()
    params = head.init(jax.random.key(0), X)
    assert head.apply(params, X).shape == (50,)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 7


def test_policy_head():
    assert policy_head(Discrete(5)) == CategoricalHead(5)
    assert policy_head(Box((2, 3), -1.0, 1.0), squash=True) == GaussianHead(6, squash=True)


class TestEnvironmentAction:
    def test_discrete_actions_are_themselves(self):
        assert environment_action(Discrete(3), jnp.array([2, 0])).tolist() == [2, 0]

    def test_clipped_and_rescaled(self):
        box = Box((1,), np.array([-1.0]), np.array([3.0]))
        raw = jnp.array([[-5.0], [-1.0], [0.0], [0.5], [1.0], [9.0]])
        assert environment_action(box, raw)[:, 0].tolist() == [-1.0, -1.0, 1.0, 2.0, 3.0, 3.0]

    def test_squashed_and_rescaled(self):
        box = Box((1,), 0.0, 10.0)
        raw = jnp.array([[-1.0], [0.0], [2.0], [50.0]])
        expected = 5.0 + 5.0 * np.tanh([-1.0, 0.0, 2.0, 50.0])
        np.testing.assert_allclose(environment_action(box, raw, squash=True)[:, 0], expected, rtol=1e-6)

    def test_matrix_actions(self):
        low = np.arange(6.0).reshape(2, 3)
        action = environment_action(Box((2, 3), low, low + 2.0), jnp.zeros((4, 6)))
        np.testing.assert_allclose(action, np.broadcast_to(low + 1.0, (4, 2, 3)))

    def test_unbounded_sides(self):
        """An unbounded dimension is left as it is; a half-bounded one is only clipped."""
        box = Box((3,), np.array([-np.inf, 0.0, -2.0]), np.array([np.inf, np.inf, 2.0]))
        action = environment_action(box, jnp.array([[7.0, -3.0, 0.5], [-7.0, 4.0, 3.0]]))
        assert action.tolist() == [[7.0, 0.0, 1.0], [-7.0, 4.0, 2.0]]
        slope = jax.grad(lambda raw: environment_action(box, raw).sum())(jnp.array([[0.5, 0.5, 0.5]]))
        assert slope.tolist() == [[1.0, 1.0, 2.0]]

    def test_traced_bounds(self):
        bounded = jax.vmap(lambda high: environment_action(Box((1,), 0.0, high), jnp.zeros((1, 1)))[0, 0])
        assert bounded(jnp.array([2.0, 4.0])).tolist() == [1.0, 2.0]
