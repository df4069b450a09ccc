"""Distributions of returns against slow loops and rlax; the exact cases; the minimisers of the losses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax
import scipy.special
import scipy.stats

from jaxrl.ops import distributional as dist
from jaxrl.ops import td

# Powers of two apart, so that shifts along it are exact; and spaced as symlog would space it.
EVEN = np.arange(-4.0, 4.5, 0.5, dtype=np.float32)
UNEVEN = np.array([-30.0, -9.0, -2.0, -0.5, 0.0, 0.25, 3.0, 11.0, 40.0], np.float32)
SUPPORTS = pytest.mark.parametrize("support", [EVEN, UNEVEN], ids=["even", "uneven"])

project = jax.jit(dist.project)


def loop_project(atoms, probs, support):
    """Each atom's mass to the two supporting points around it, by search; the definition, in float64."""
    result = np.zeros(len(support))
    support = support.astype(float)
    for z, p in zip(atoms.astype(float), probs.astype(float), strict=True):
        z = min(max(z, support[0]), support[-1])
        i = min(np.searchsorted(support, z, side="right") - 1, len(support) - 2)
        upper = (z - support[i]) / (support[i + 1] - support[i])
        result[i] += p * (1 - upper)
        result[i + 1] += p * upper
    return result


@pytest.fixture(scope="module")
def source():
    """32 distributions on 7 atoms of their own, in no order, some beyond the ends, some on the grid."""
    rng = np.random.default_rng(0)
    atoms = rng.normal(scale=4.0, size=(32, 7)).astype(np.float32)
    atoms[::3, 0], atoms[1::3, 1], atoms[::4, 2] = 0.0, 3.0, 1e6
    return atoms, rng.dirichlet(np.ones(7), 32).astype(np.float32)


@SUPPORTS
class TestProject:
    def test_against_a_loop(self, source, support):
        expected = [loop_project(atoms, probs, support) for atoms, probs in zip(*source, strict=True)]
        np.testing.assert_allclose(project(*source, support), expected, atol=1e-6)

    def test_against_rlax(self, source, support):
        expected = jax.vmap(rlax.categorical_l2_project, (0, 0, None))(*source, jnp.asarray(support))
        np.testing.assert_allclose(project(*source, support), expected, atol=1e-6)

    def test_keeps_mass_and_mean(self, source, support):
        projected = project(*source, support)
        atoms, probs = source
        assert (projected >= 0).all()
        np.testing.assert_allclose(projected.sum(-1), np.ones(32), atol=1e-6)
        mean = (np.clip(atoms, support[0], support[-1]) * probs).sum(-1)
        np.testing.assert_allclose(dist.categorical_mean(projected, support), mean, rtol=1e-5, atol=1e-5)

    def test_in_place_nothing_moves(self, support):
        """An atom on the grid has floor == ceil, where the tutorials' equations lose its mass (PITFALLS 5)."""
        probs = np.random.default_rng(0).dirichlet(np.ones(len(support)), 8).astype(np.float32)
        atoms = jnp.broadcast_to(support, probs.shape)
        np.testing.assert_array_equal(project(atoms, probs, support), probs)

    def test_mass_beyond_the_ends_is_kept_there(self, support):
        probs = jnp.array([0.25, 0.5, 0.25])
        for far in (1e3, 1e30, np.inf):
            projected = project(jnp.array([-far, 0.0, far]), probs, support)
            assert projected.sum() == 1.0
            assert projected[0] == projected[-1] == 0.25

    def test_a_finished_episode_is_its_reward(self, support):
        """Discount 0: all atoms lie on the reward."""
        probs = jnp.full((1, len(support)), 1 / len(support))
        atoms = dist.target_atoms(jnp.array([3.0]), jnp.zeros(1), support)
        np.testing.assert_allclose(project(atoms, probs, support), dist.two_hot(jnp.array([3.0]), support), atol=1e-6)


class TestShift:
    @pytest.mark.parametrize("steps", [1, 3, -2])
    def test_whole_steps_move_exactly(self, steps):
        """To the bit, and what passes the end stays on it."""
        probs = np.random.default_rng(1).dirichlet(np.ones(len(EVEN)), 4).astype(np.float32)
        atoms = dist.target_atoms(jnp.full(4, steps * 0.5), jnp.ones(4), EVEN)
        expected = np.zeros_like(probs)
        for i in range(len(EVEN)):
            expected[:, min(max(i + steps, 0), len(EVEN) - 1)] += probs[:, i]
        inside = slice(1, -1)
        projected = np.asarray(project(atoms, probs, EVEN))
        np.testing.assert_array_equal(projected[:, inside], expected[:, inside])
        np.testing.assert_allclose(projected, expected, atol=1e-7)

    def test_each_sample_has_its_own_discount(self):
        """n-step windows of different length in one batch, one of them ended, one between two players."""
        probs = np.random.default_rng(2).dirichlet(np.ones(len(EVEN)), 4).astype(np.float32)
        r_t, discount_t = np.array([1.0, -0.7, 2.0, 0.3]), np.array([0.9, 0.729, 0.0, -0.9])
        atoms = dist.target_atoms(r_t, discount_t, EVEN)
        expected = [
            loop_project(r + d * EVEN.astype(float), p, EVEN) for r, d, p in zip(r_t, discount_t, probs, strict=True)
        ]
        np.testing.assert_allclose(project(atoms, probs, EVEN), expected, atol=1e-6)

    def test_two_players_see_the_opposite(self):
        probs = np.random.default_rng(3).dirichlet(np.ones(len(EVEN)), 2).astype(np.float32)
        atoms = dist.target_atoms(jnp.zeros(2), jnp.full(2, -1.0), EVEN)
        np.testing.assert_array_equal(project(atoms, probs, EVEN), probs[:, ::-1])

    def test_quantiles_move_the_same_way(self):
        quantiles = np.random.default_rng(4).normal(size=(3, 5)).astype(np.float32)
        r_t, discount_t = np.array([1.0, 2.0, 3.0], np.float32), np.array([0.0, 0.5, 0.9], np.float32)
        expected = np.stack([r + d * row for r, d, row in zip(r_t, discount_t, quantiles, strict=True)])
        np.testing.assert_allclose(dist.target_atoms(r_t, discount_t, quantiles), expected, rtol=1e-6)


class TestTwoHot:
    def test_against_rlax(self):
        """Which adds 1e-5 to a divisor, and so is right to that."""
        value = np.random.default_rng(0).uniform(-6, 6, size=64).astype(np.float32)
        expected = rlax.transform_to_2hot(jnp.asarray(value), -4.0, 4.0, len(EVEN))
        np.testing.assert_allclose(dist.two_hot(value, EVEN), expected, atol=1e-4)

    @SUPPORTS
    def test_decoding_is_the_inverse(self, support):
        value = np.random.default_rng(1).uniform(support[0], support[-1], size=(8, 8)).astype(np.float32)
        encoded = dist.two_hot(value, support)
        assert (np.count_nonzero(encoded, axis=-1) <= 2).all()
        np.testing.assert_allclose(encoded.sum(-1), np.ones((8, 8)), atol=1e-6)
        np.testing.assert_allclose(dist.categorical_mean(encoded, support), value, rtol=1e-5, atol=1e-5)

    @SUPPORTS
    def test_atoms_are_one_hot(self, support):
        np.testing.assert_array_equal(dist.two_hot(support, support), np.eye(len(support)))

    def test_beyond_the_ends_and_a_single_atom(self):
        assert dist.two_hot(jnp.array([-99.0, 99.0]), UNEVEN)[:, [0, -1]].tolist() == [[1.0, 0.0], [0.0, 1.0]]
        assert dist.two_hot(jnp.array([-5.0, 0.0, 5.0]), jnp.array([0.0])).tolist() == [[1.0], [1.0], [1.0]]


class TestBins:
    def test_of_returns_against_rlax(self):
        x = np.concatenate([np.linspace(-500, 500, 81), [-0.3, 1e-4, 0.7]]).astype(np.float32)
        bins, theirs = dist.Bins.of_returns(20), rlax.muzero_pair(-20.0, 20.0, 41, rlax.SIGNED_HYPERBOLIC_PAIR)
        encoded = bins.encode(x)
        np.testing.assert_allclose(encoded, theirs.apply(jnp.asarray(x)), atol=1e-4)
        inside = np.abs(x) < 422
        np.testing.assert_allclose(bins.decode(jnp.log(encoded))[inside], x[inside], rtol=1e-4, atol=1e-5)
        logits = np.random.default_rng(0).normal(size=(16, 41)).astype(np.float32)
        np.testing.assert_allclose(bins.decode(logits), theirs.apply_inv(jax.nn.softmax(logits)), rtol=1e-3, atol=1e-3)

    def test_of_a_range_are_linear_in_it(self):
        bins = dist.Bins.of_range(4)
        assert bins.size == 9 and bins.encode(jnp.array(0.375)).tolist() == [0, 0, 0, 0, 0, 0.5, 0.5, 0, 0]
        np.testing.assert_allclose(bins.decode(jnp.log(bins.encode(jnp.array([-2.0, 0.1])))), [-1.0, 0.1], atol=1e-6)


class TestCrossEntropy:
    def test_against_scipy(self, source):
        logits = np.random.default_rng(0).normal(scale=3.0, size=(32, 7)).astype(np.float32)
        expected = -(source[1] * scipy.special.log_softmax(logits.astype(float), axis=-1)).sum(-1)
        np.testing.assert_allclose(dist.categorical_cross_entropy_term(logits, source[1]), expected, rtol=1e-5)

    def test_gradients(self):
        """p - q in the logits, nothing in the target."""
        logits, target = jnp.array([0.3, -1.0, 2.0]), jnp.array([0.2, 0.5, 0.3])
        gradients = jax.grad(dist.categorical_cross_entropy_term, (0, 1))(logits, target)
        np.testing.assert_allclose(gradients[0], jax.nn.softmax(logits) - target, atol=1e-6)
        assert not gradients[1].any()


def test_choosing_by_mean_not_by_mass():
    """``sum(p)`` is 1 for every action (PITFALLS 5): the mean is ``sum(p z)``."""
    support = jnp.array([-1.0, 0.0, 1.0])
    probs = jnp.array([[[0.0, 1.0, 0.0], [0.0, 0.5, 0.5], [0.8, 0.0, 0.2]]])
    q = dist.categorical_mean(probs, support)
    np.testing.assert_allclose(q, [[0.0, 0.5, -0.6]], atol=1e-6)
    assert td.take_action(probs, td.masked_argmax(q)).tolist() == [[0.0, 0.5, 0.5]]


def minimise(term, start, rate, steps):
    """Plain subgradient descent with a falling rate."""

    @jax.jit
    def run(x):
        def step(x, i):
            return x - rate / jnp.sqrt(1.0 + i) * jax.grad(term)(x), None

        return jax.lax.scan(step, x, jnp.arange(float(steps)))[0]

    return run(start)


class TestQuantileHuber:
    @pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0])
    def test_against_a_loop(self, kappa):
        rng = np.random.default_rng(0)
        quantiles, target, tau = rng.normal(size=(6, 5)), rng.normal(size=(6, 3)) * 2, rng.random((6, 5))
        expected = np.zeros(6)
        for n in range(6):
            for q, t in zip(quantiles[n], tau[n], strict=True):
                for u in target[n] - q:
                    huber = abs(u) - kappa / 2 if abs(u) > kappa else u * u / 2 / kappa
                    expected[n] += (t if u > 0 else 1 - t) * huber / 3
        args = (jnp.asarray(x, jnp.float32) for x in (quantiles, target, tau))
        np.testing.assert_allclose(dist.quantile_huber_term(*args, kappa), expected, rtol=1e-5)

    @pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0])
    def test_against_rlax(self, kappa):
        """rlax does not divide by kappa."""
        quantiles, target = np.random.default_rng(1).normal(size=(2, 8, 5)).astype(np.float32)
        tau = dist.quantile_midpoints(5)
        single = lambda q, t: rlax.quantile_regression_loss(q, tau, t, kappa)  # noqa: E731
        expected = jax.vmap(single)(quantiles, target) / (kappa or 1.0)
        np.testing.assert_allclose(dist.quantile_huber_term(quantiles, target, tau, kappa), expected, rtol=1e-5)

    def test_step_of_quantile_q_learning_against_rlax(self):
        """The whole of it, greedy by the selector's mean, for each sample its own discount."""
        rng = np.random.default_rng(2)
        z_tm1, z_t, z_selector = rng.normal(size=(3, 8, 5, 3)).astype(np.float32)  # rlax: [N, M, A]
        a_tm1, r_t = rng.integers(3, size=8), rng.normal(size=8).astype(np.float32)
        discount_t, tau = rng.choice([0.0, 0.81, 0.9], 8).astype(np.float32), dist.quantile_midpoints(5)

        def single(*args):
            return rlax.quantile_q_learning(args[0], tau, *args[1:], huber_param=1.0)

        expected = jax.vmap(single)(z_tm1, a_tm1, r_t, discount_t, z_selector, z_t)
        ours_tm1, ours_t, selector = (jnp.swapaxes(z, 1, 2) for z in (z_tm1, z_t, z_selector))
        best = td.masked_argmax(selector.mean(-1))
        target = dist.target_atoms(r_t, discount_t, td.take_action(ours_t, best))
        term = dist.quantile_huber_term(td.take_action(ours_tm1, a_tm1), target, tau)
        np.testing.assert_allclose(term, expected, rtol=1e-5)

    def test_minimiser_is_the_empirical_quantile(self):
        """Of a skewed sample, so that tau and 1 - tau, or the axes, exchanged would show (PITFALLS 6)."""
        sample = jnp.asarray(np.random.default_rng(3).exponential(size=201), jnp.float32)
        tau = dist.quantile_midpoints(5)  # of 201 values: the 21st, 61st, 101st, 141st, 181st, and nothing between
        found = minimise(lambda q: dist.quantile_huber_term(q, sample, tau, 0.0), jnp.zeros(5), 0.5, 4000)
        expected = np.quantile(sample, tau, method="inverted_cdf")
        assert expected[-1] > 2 * expected[2] > 3 * expected[1]
        np.testing.assert_allclose(found, expected, atol=0.03)

    def test_minimiser_for_sampled_fractions(self):
        """Each sample of a batch has its own fractions, as in IQN, and its own targets."""
        rng = np.random.default_rng(4)
        target = jnp.asarray(rng.normal(size=(3, 301)) * np.array([[1.0], [2.0], [3.0]]), jnp.float32)
        tau = jnp.array([[0.1, 0.9], [0.5, 0.3], [0.8, 0.2]])
        found = minimise(lambda q: dist.quantile_huber_term(q, target, tau, 0.0).sum(), jnp.zeros((3, 2)), 1.0, 4000)
        expected = [np.quantile(row, t) for row, t in zip(target, tau, strict=True)]
        np.testing.assert_allclose(found, expected, atol=0.1)

    def test_huber_minimiser_is_the_expectile_when_wide(self):
        """Kappa beyond all errors: squares weighted tau and 1 - tau, whose minimiser is the expectile."""
        sample = np.random.default_rng(5).exponential(size=101)
        tau, kappa = jnp.array([0.1, 0.5, 0.9]), 100.0
        wide = lambda q: kappa * dist.quantile_huber_term(q, jnp.asarray(sample, jnp.float32), tau, kappa)  # noqa: E731
        found = minimise(wide, jnp.zeros(3), 1.0, 1000)
        np.testing.assert_allclose(found, [scipy.stats.expectile(sample, a) for a in (0.1, 0.5, 0.9)], atol=1e-3)

    def test_gradients(self):
        """tau * min(1, u / kappa) upwards, (1 - tau) downwards; nothing in targets and fractions."""
        quantiles, target, tau = jnp.zeros(1), jnp.array([3.0]), jnp.array([0.25])
        gradients = jax.grad(dist.quantile_huber_term, (0, 1, 2))(quantiles, target, tau, 1.0)
        assert [gradient.tolist() for gradient in gradients] == [[-0.25], [0.0], [0.0]]
        downwards = jax.grad(dist.quantile_huber_term)(quantiles, -target, tau, 1.0)
        within = jax.grad(dist.quantile_huber_term)(quantiles, jnp.array([0.5]), tau, 1.0)
        assert (downwards.item(), within.item()) == (0.75, -0.125)

    def test_kappa_0_at_the_kink(self):
        """Quantiles that are all on their targets: no NaN, and a slope between those of the two sides."""
        tau = dist.quantile_midpoints(2)
        value, gradient = jax.value_and_grad(dist.quantile_huber_term)(jnp.ones(2), jnp.ones(3), tau, 0.0)
        assert value == 0.0
        assert (-tau <= gradient).all() and (gradient <= 1 - tau).all()

    def test_sums_own_and_averages_targets(self):
        """Twice the targets: the same. Twice the quantiles: twice."""
        quantiles, target, tau = jnp.array([0.0, 1.0]), jnp.array([2.0, -3.0]), jnp.array([0.3, 0.6])
        once = dist.quantile_huber_term(quantiles, target, tau)
        np.testing.assert_allclose(dist.quantile_huber_term(quantiles, jnp.tile(target, 2), tau), once, rtol=1e-6)
        double = dist.quantile_huber_term(jnp.tile(quantiles, 2), target, jnp.tile(tau, 2))
        np.testing.assert_allclose(double, 2 * once, rtol=1e-6)

    def test_midpoints(self):
        np.testing.assert_allclose(dist.quantile_midpoints(200), (2 * np.arange(200) + 1) / 400, rtol=1e-6)
        assert dist.quantile_midpoints(200).dtype == jnp.float32


class TestHLGauss:
    edges = np.linspace(-10.0, 10.0, 41).astype(np.float32)

    def test_against_scipy(self):
        """Differences of the distribution function of a Gaussian cut to the range."""
        value, sigma = np.array([-9.9, -3.3, 0.0, 4.56, 9.0]), 0.6
        lower, upper = ((end - value) / sigma for end in (-10.0, 10.0))
        edges = self.edges[:, None].astype(float)
        expected = np.diff(scipy.stats.truncnorm.cdf(edges, lower, upper, loc=value, scale=sigma), axis=0).T
        np.testing.assert_allclose(dist.hl_gauss(value, self.edges, sigma), expected, atol=1e-6)

    @pytest.mark.parametrize(("bins", "tolerance"), [(0.5, 3e-3), (0.75, 3e-5), (2.0, 3e-5)])
    def test_decoding_is_the_inverse(self, bins, tolerance):
        """In units of a bin; sigma in bins."""
        value = np.random.default_rng(0).uniform(-4, 4, size=256).astype(np.float32)
        encoded = dist.hl_gauss(value, self.edges, 0.5 * bins)
        decoded = dist.categorical_mean(encoded, dist.bin_centers(self.edges))
        np.testing.assert_allclose(decoded, value, atol=0.5 * tolerance)

    def test_uneven_bins(self):
        """The mass of a bin is an integral: two bins made one hold the sum."""
        coarse = np.delete(self.edges, [5, 6, 21])
        fine, merged = (dist.hl_gauss(jnp.array(0.3), edges, 0.8) for edges in (self.edges, coarse))
        expected = np.add.reduceat(fine, np.delete(np.arange(40), [5, 6, 21]))
        np.testing.assert_allclose(merged, expected, atol=1e-6)

    @pytest.mark.parametrize("sigma", [1e-3, 0.4, 100.0])
    def test_far_values_are_still_distributions(self, sigma):
        """Where all differences of the distribution function are 0 the quotient would be NaN."""
        for value in (-np.inf, -1e30, -10.0, 0.0, 0.25, 10.0, 1e6):
            encoded = dist.hl_gauss(jnp.float32(value), self.edges, sigma)
            assert (encoded >= 0).all()
            np.testing.assert_allclose(encoded.sum(), 1.0, atol=1e-6)
        assert dist.hl_gauss(jnp.array(1e6), self.edges, sigma).argmax() == 39

    def test_learned_by_cross_entropy(self):
        """A regression by classification: the logits that minimise the loss decode to the mean of the targets."""
        target = dist.hl_gauss(jnp.array([1.0, 1.0, 4.0]), self.edges, 0.5)

        def loss(logits):
            return dist.categorical_cross_entropy_term(jnp.broadcast_to(logits, target.shape), target).mean()

        logits = minimise(loss, jnp.zeros(40), 20.0, 3000)
        decoded = dist.categorical_mean(jax.nn.softmax(logits), dist.bin_centers(self.edges))
        np.testing.assert_allclose(decoded, 2.0, atol=0.02)


def test_hyper_parameters_may_be_traced(source):
    """A sweep over ranges of the support, thresholds and widths in one program."""
    atoms, probs = source

    def of(limit, kappa, sigma):
        support = jnp.linspace(-limit, limit, 8)
        projected = dist.project(atoms, probs, support)
        term = dist.quantile_huber_term(jnp.zeros((32, 3)), jnp.clip(atoms, -9, 9), dist.quantile_midpoints(3), kappa)
        return dist.categorical_mean(projected, support), term, dist.hl_gauss(probs[:, 0], support, sigma)

    values = [(5.0, 0.0, 0.5), (10.0, 1.0, 1.0)]
    swept = jax.jit(jax.vmap(of))(*jnp.array(values).T)
    for i, row in enumerate(values):
        for many, one in zip(swept, of(*row), strict=True):
            np.testing.assert_allclose(many[i], one, rtol=1e-5, atol=1e-5)
