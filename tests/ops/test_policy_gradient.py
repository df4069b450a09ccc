"""Policy-gradient terms against NumPy in float64, scipy and rlax, and their gradients where they are the point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax
import scipy.special
import scipy.stats

from jaxrl.ops import policy_gradient as pg

EPSILON = 0.2


@pytest.fixture(scope="module")
def samples():
    """Log-ratios and advantages on both sides of every threshold."""
    rng = np.random.default_rng(0)
    return rng.normal(scale=0.5, size=64).astype(np.float32), rng.normal(size=64).astype(np.float32)


class TestPolicyGradientTerm:
    def test_value_and_gradients(self):
        """-log pi A; its gradient in log pi is -A, and there is none in A."""
        log_prob, advantage = jnp.array([-1.0, -2.0]), jnp.array([3.0, -4.0])
        assert pg.policy_gradient_term(log_prob, advantage).tolist() == [3.0, -8.0]
        gradients = jax.grad(lambda *args: pg.policy_gradient_term(*args).sum(), (0, 1))(log_prob, advantage)
        assert gradients[0].tolist() == [-3.0, 4.0]
        assert gradients[1].tolist() == [0.0, 0.0]


class TestSurrogateTerm:
    def test_value_and_gradients(self, samples):
        """-r A; its gradient in log r is -r A, at ratio 1 that of -log pi A, and there is none in A."""
        log_ratio, advantage = samples
        expected = -np.exp(log_ratio.astype(np.float64)) * advantage
        np.testing.assert_allclose(pg.surrogate_term(log_ratio, advantage), expected, rtol=1e-5)
        slope = jax.grad(lambda *args: pg.surrogate_term(*args).sum(), (0, 1))
        for_ratio, for_advantage = slope(log_ratio, advantage)
        np.testing.assert_allclose(for_ratio, expected, rtol=1e-5)
        assert (for_advantage == 0.0).all()
        np.testing.assert_allclose(slope(jnp.zeros_like(log_ratio), advantage)[0], -advantage, rtol=1e-6)

    def test_no_overflow(self):
        term = jax.value_and_grad(pg.surrogate_term)
        assert all(jnp.isfinite(x) for x in term(jnp.float32(200.0), jnp.float32(1.0)))


class TestPPOClipTerm:
    def test_against_a_loop(self, samples):
        log_ratio, advantage = samples
        expected = []
        for log_r, a in zip(log_ratio.astype(float), advantage.astype(float), strict=True):
            r = np.exp(log_r)
            expected.append(-min(r * a, min(max(r, 1 - EPSILON), 1 + EPSILON) * a))
        np.testing.assert_allclose(pg.ppo_clip_term(log_ratio, advantage, EPSILON), expected, rtol=1e-5)

    def test_against_rlax(self, samples):
        log_ratio, advantage = samples
        expected = rlax.clipped_surrogate_pg_loss(jnp.exp(log_ratio), jnp.asarray(advantage), EPSILON)
        np.testing.assert_allclose(pg.ppo_clip_term(log_ratio, advantage, EPSILON).mean(), expected, rtol=1e-5)

    def test_flat_only_where_the_move_was_in_favour(self):
        """dL/dlog r = -r A, and 0 where r > 1 + eps with A > 0 or r < 1 - eps with A < 0."""
        ratio = np.array([1.5, 1.5, 0.5, 0.5, 1.1, 0.9], np.float32)
        advantage = np.array([2.0, -2.0, 2.0, -2.0, 2.0, -2.0], np.float32)
        gradient = jax.grad(lambda x: pg.ppo_clip_term(x, advantage, EPSILON).sum())(jnp.log(ratio))
        np.testing.assert_allclose(gradient, [0.0, 3.0, -1.0, 0.0, -2.2, 1.8], rtol=1e-5)

    def test_first_step_is_the_policy_gradient(self, samples):
        """At ratio 1 the gradient is that of -log pi A."""
        _, advantage = samples
        gradient = jax.grad(lambda x: pg.ppo_clip_term(x, advantage, EPSILON).sum())(jnp.zeros_like(advantage))
        np.testing.assert_allclose(gradient, -advantage, rtol=1e-6)

    def test_no_gradient_in_the_advantage(self, samples):
        log_ratio, advantage = samples
        gradient = jax.grad(lambda a: pg.ppo_clip_term(log_ratio, a, EPSILON).sum())(advantage)
        assert not gradient.any()

    @pytest.mark.parametrize("log_ratio", [200.0, -200.0, -np.inf])
    @pytest.mark.parametrize("advantage", [1.0, 0.0, -1.0])
    def test_extreme_ratios_make_no_nan(self, log_ratio, advantage):
        value, gradient = jax.value_and_grad(pg.ppo_clip_term)(jnp.float32(log_ratio), jnp.float32(advantage), EPSILON)
        assert np.isfinite(value) and np.isfinite(gradient)
        if log_ratio > 0 and advantage > 0:
            assert gradient == 0.0

    def test_epsilon_may_be_traced(self, samples):
        swept = jax.jit(jax.vmap(lambda epsilon: pg.ppo_clip_term(*samples, epsilon)))(jnp.array([0.1, 0.3]))
        for epsilon, row in zip([0.1, 0.3], swept, strict=True):
            np.testing.assert_allclose(row, pg.ppo_clip_term(*samples, epsilon), rtol=1e-6)


class TestApproximateKL:
    p, q = np.array([0.2, 0.5, 0.3]), np.array([0.4, 0.4, 0.2])

    def expectation(self, p_logits):
        """The estimator's exact mean over actions drawn from q."""
        log_ratio = jax.nn.log_softmax(p_logits) - jnp.log(jnp.asarray(self.q, jnp.float32))
        return jnp.sum(jnp.asarray(self.q, jnp.float32) * pg.approximate_kl(log_ratio))

    def test_unbiased(self):
        expected = scipy.stats.entropy(self.q, self.p)
        np.testing.assert_allclose(self.expectation(jnp.log(jnp.asarray(self.p, jnp.float32))), expected, rtol=1e-5)

    def test_its_gradient_is_unbiased(self):
        """d KL(q || softmax(z)) / dz = softmax(z) - q."""
        gradient = jax.grad(self.expectation)(jnp.log(jnp.asarray(self.p, jnp.float32)))
        np.testing.assert_allclose(gradient, self.p - self.q, atol=1e-6)

    def test_small_ratios_keep_their_digits(self):
        """About log_ratio^2 / 2, never negative; exp(x) - 1 - x in float32 gives 0 or noise at 1e-4."""
        log_ratio = np.array([1e-2, -1e-2, 1e-3, -1e-3], np.float32)
        exact = np.expm1(log_ratio.astype(float)) - log_ratio.astype(float)
        np.testing.assert_allclose(pg.approximate_kl(log_ratio), exact, rtol=1e-3)

    def test_never_negative(self, samples):
        log_ratio = np.concatenate([samples[0], samples[0] * 1e-3, [0.0, 100.0, -100.0]])
        kl = np.asarray(pg.approximate_kl(log_ratio.astype(np.float32)))
        assert (kl >= 0).all() and np.isfinite(kl).all()


class TestClipFraction:
    def test_counts_both_sides(self):
        log_ratio = jnp.log(jnp.array([0.5, 0.81, 1.0, 1.19, 1.5]))
        assert pg.clip_fraction(log_ratio, EPSILON).tolist() == [1.0, 0.0, 0.0, 0.0, 1.0]


MASKS = [-jnp.inf, -1e9, -1e30, float(jnp.finfo(jnp.float32).min)]


class TestCategorical:
    def logits(self, seed=0):
        p, q = np.random.default_rng(seed).normal(scale=2.0, size=(2, 5, 4)).astype(np.float32)
        return p, q

    def test_entropy_against_scipy(self):
        p, _ = self.logits()
        expected = scipy.stats.entropy(scipy.special.softmax(p.astype(float), -1), axis=-1)
        np.testing.assert_allclose(pg.categorical_entropy(p), expected, rtol=1e-5)

    def test_kl_against_scipy(self):
        p, q = self.logits()
        expected = scipy.stats.entropy(*(scipy.special.softmax(x.astype(float), -1) for x in (p, q)), axis=-1)
        np.testing.assert_allclose(pg.categorical_kl(p, q), expected, rtol=1e-5)

    @pytest.mark.parametrize("mask", MASKS)
    def test_masked_actions_might_as_well_not_exist(self, mask):
        p, q = self.logits(1)
        p_masked, q_masked = p.copy(), q.copy()
        p_masked[:, 1], q_masked[:, 1] = mask, mask
        legal = [0, 2, 3]

        def both(p, q):
            return (pg.categorical_entropy(p) + pg.categorical_kl(p, q)).sum()

        value, gradients = jax.value_and_grad(both, (0, 1))(p_masked, q_masked)
        expected, expected_gradients = jax.value_and_grad(both, (0, 1))(p[:, legal], q[:, legal])
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
            np.testing.assert_allclose(gradient[:, legal], expected_gradient, atol=1e-6)
            assert not gradient[:, 1].any()

    @pytest.mark.parametrize("mask", MASKS)
    def test_masked_in_q_alone_is_huge_not_nan(self, mask):
        p, q = jnp.zeros(3), jnp.array([0.0, mask, 0.0])
        value, gradients = jax.value_and_grad(pg.categorical_kl, (0, 1))(p, q)
        assert value > 1e8
        assert np.isfinite(value) and all(np.isfinite(gradient).all() for gradient in gradients)

    @pytest.mark.parametrize("mask", MASKS)
    def test_all_masked_is_uniform(self, mask):
        """It happens in observations of finished games, whose terms are weighted by 0: 0 * NaN would be NaN."""
        value, gradient = jax.value_and_grad(pg.categorical_entropy)(jnp.full(4, mask))
        np.testing.assert_allclose(value, np.log(4), rtol=1e-6)
        assert np.isfinite(gradient).all()
        assert pg.categorical_kl(jnp.full(4, mask), jnp.full(4, mask)) == 0.0

    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
    def test_half_precision(self, dtype):
        logits = jnp.array([0.0, 0.0, -jnp.inf], dtype)
        value, gradient = jax.value_and_grad(pg.categorical_entropy)(logits)
        np.testing.assert_allclose(value.astype(jnp.float32), np.log(2), rtol=1e-2)
        assert np.isfinite(gradient.astype(jnp.float32)).all()

    def test_entropy_gradient(self):
        """dH/dz = -p (log p + H)."""
        z = jnp.array([0.3, -1.0, 0.8])
        log_p = np.asarray(jax.nn.log_softmax(z), float)
        expected = -np.exp(log_p) * (log_p - np.sum(np.exp(log_p) * log_p))
        np.testing.assert_allclose(jax.grad(pg.categorical_entropy)(z), expected, atol=1e-6)


class TestNormalizeAdvantage:
    def test_against_numpy(self):
        x = np.random.default_rng(0).normal(3.0, 5.0, size=(8, 4)).astype(np.float32)
        expected = (x - x.mean(dtype=float)) / x.std(dtype=float)
        np.testing.assert_allclose(pg.normalize_advantage(x), expected, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("x", [np.zeros(4), np.full(4, 0.5), np.ones(1)])
    def test_equal_advantages_become_0(self, x):
        assert not pg.normalize_advantage(jnp.asarray(x, jnp.float32)).any()
