"""Exploration against exact probabilities, moments known in closed form, and rlax."""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from jaxrl.ops import exploration

DRAWS = 20_000
VALUES = np.array([[1.0, 5.0, 2.0, 5.0], [4.0, 3.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]], np.float32)
MASK = np.array([[True, False, True, True], [False, True, True, False], [False, False, True, False]])
MASKS = pytest.mark.parametrize("mask", [None, MASK], ids=["all legal", "masked"])
KEY = jax.random.key(0)


def frequencies(sample, mask):
    """How often each action came, over DRAWS keys, in each row of VALUES: ``[3, A]``."""

    def draw(key):
        action = sample(key, jnp.asarray(VALUES), mask)
        assert action.shape == (3,) and action.dtype == jnp.int32
        return jax.nn.one_hot(action, 4)

    return jax.jit(lambda keys: jax.vmap(draw)(keys).mean(0))(jax.random.split(KEY, DRAWS))


def assert_sampled_from(frequencies, probs):
    """Within five deviations of a frequency; never where the probability is 0."""
    probs = np.asarray(probs, float)
    np.testing.assert_array_less(np.abs(frequencies - probs), 5 * np.sqrt(probs * (1 - probs) / DRAWS) + 1e-6)


def loop_epsilon_greedy(epsilon, mask):
    probs = np.zeros((3, 4))
    for n, values in enumerate(VALUES):
        legal = [a for a in range(4) if mask is None or mask[n, a]]
        for a in legal:
            probs[n, a] += epsilon / len(legal)
        probs[n, max(legal, key=lambda a: values[a])] += 1 - epsilon
    return probs


class TestEpsilonGreedy:
    @MASKS
    @pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
    def test_probabilities_against_a_loop(self, epsilon, mask):
        expected = loop_epsilon_greedy(epsilon, mask)
        np.testing.assert_allclose(exploration.epsilon_greedy_probs(VALUES, epsilon, mask), expected, atol=1e-6)

    def test_probabilities_against_distrax(self):
        expected = distrax.EpsilonGreedy(jnp.asarray(VALUES[1]), 0.2).probs
        np.testing.assert_allclose(exploration.epsilon_greedy_probs(VALUES[1], 0.2), expected, atol=1e-6)

    @MASKS
    def test_samples_follow_the_probabilities(self, mask):
        drawn = frequencies(lambda key, rows, mask: exploration.epsilon_greedy(key, rows, 0.4, mask), mask)
        assert_sampled_from(drawn, exploration.epsilon_greedy_probs(VALUES, 0.4, mask))

    @MASKS
    def test_epsilon_0_is_greedy_and_the_first_of_equals(self, mask):
        action = exploration.epsilon_greedy(KEY, jnp.asarray(VALUES), 0.0, mask)
        assert action.tolist() == ([1, 0, 0] if mask is None else [3, 1, 2])

    def test_one_epsilon_for_each_environment(self):
        epsilon = jnp.array([0.0, 0.5, 1.0])
        rows = [exploration.epsilon_greedy_probs(v, e) for v, e in zip(VALUES, epsilon, strict=True)]
        np.testing.assert_allclose(exploration.epsilon_greedy_probs(VALUES, epsilon), rows, atol=1e-6)

        drawn = frequencies(lambda key, values, mask: exploration.epsilon_greedy(key, values, epsilon, mask), None)
        assert_sampled_from(drawn, rows)

    def test_environments_explore_independently(self):
        """At epsilon 1/2 of two actions a quarter of 64 are not the best: at each of 50 steps about 16, sd 3.5."""
        values = jnp.tile(jnp.array([1.0, 0.0]), (64, 1))
        act = jax.jit(jax.vmap(lambda key: exploration.epsilon_greedy(key, values, 0.5)))
        actions = act(jax.random.split(KEY, 50))
        counts = actions.sum(1)
        assert 2 < counts.min() < counts.max() < 31
        assert len(np.unique(actions, axis=0)) == 50

    def test_no_legal_action_is_finite(self):
        probs = exploration.epsilon_greedy_probs(VALUES[:1], 0.5, np.zeros((1, 4), bool))
        np.testing.assert_allclose(probs, exploration.epsilon_greedy_probs(VALUES[:1], 0.5), atol=1e-6)


class TestLinearSchedule:
    def test_against_numpy(self):
        steps = np.arange(0, 200, 7)
        expected = np.interp(steps, [0, 100], [1.0, 0.05])
        np.testing.assert_allclose(exploration.linear_schedule(steps, 1.0, 0.05, 100), expected, rtol=1e-5)

    def test_ends_are_exact(self):
        for start, end in ((1.0, 0.05), (0.1, 0.7)):
            schedule = exploration.linear_schedule(jnp.array([0, 10, 11, 2**31 - 1]), start, end, 10)
            assert schedule.tolist() == jnp.array([start, end, end, end]).tolist()

    def test_all_may_be_traced(self):
        traced = jax.jit(jax.vmap(exploration.linear_schedule))(
            jnp.array([3, 30]), jnp.array([1.0, 0.5]), jnp.array([0.0, 0.1]), jnp.array([10, 20])
        )
        np.testing.assert_allclose(traced, [0.7, 0.1], rtol=1e-6)
        assert traced.dtype == jnp.float32 and not traced.weak_type

    def test_more_steps_than_an_integer_holds_and_none(self):
        assert exploration.linear_schedule(0, 1.0, 0.5, 10**10) == 1.0
        assert exploration.linear_schedule(jnp.arange(2), 1.0, 0.5, 0).tolist() == [1.0, 0.5]


class TestBoltzmann:
    @MASKS
    def test_probabilities_against_a_loop(self, mask):
        expected = np.zeros((3, 4))
        for n, values in enumerate(VALUES.astype(float)):
            legal = [a for a in range(4) if mask is None or mask[n, a]]
            weight = {a: np.exp(values[a] / 0.7) for a in legal}
            for a in legal:
                expected[n, a] = weight[a] / sum(weight.values())
        np.testing.assert_allclose(exploration.boltzmann_probs(VALUES, 0.7, mask), expected, atol=1e-6)

    @MASKS
    def test_samples_follow_the_probabilities(self, mask):
        drawn = frequencies(lambda key, rows, mask: exploration.boltzmann(key, rows, 2.0, mask), mask)
        assert_sampled_from(drawn, exploration.boltzmann_probs(VALUES, 2.0, mask))

    @MASKS
    @pytest.mark.parametrize("temperature", [1e-30, 1e30, 1e38])
    def test_extreme_temperatures(self, temperature, mask):
        """Cold: the best, equals sharing. Hot: uniform over what is legal. No overflow on the way."""
        probs = exploration.boltzmann_probs(VALUES, temperature, mask)
        legal = np.ones((3, 4), bool) if mask is None else mask
        values = np.where(legal, VALUES, -np.inf)
        winners = legal if temperature > 1 else values == values.max(-1, keepdims=True)
        np.testing.assert_allclose(probs, winners / winners.sum(-1, keepdims=True), atol=1e-6)

    def test_one_temperature_for_each_environment(self):
        rows = [exploration.boltzmann_probs(v, t) for v, t in zip(VALUES, [0.5, 1.0, 2.0], strict=True)]
        np.testing.assert_allclose(exploration.boltzmann_probs(VALUES, jnp.array([0.5, 1.0, 2.0])), rows, atol=1e-6)


class TestGaussian:
    def test_moments(self):
        noisy = exploration.gaussian(KEY, jnp.full((DRAWS, 2), 0.25), 0.1)
        np.testing.assert_allclose(noisy.mean(0), [0.25, 0.25], atol=5 * 0.1 / DRAWS**0.5)
        np.testing.assert_allclose(noisy.std(0), [0.1, 0.1], rtol=5 / (2 * DRAWS) ** 0.5)
        assert abs(np.corrcoef(noisy.T)[0, 1]) < 5 / DRAWS**0.5

    def test_against_rlax(self):
        action = jnp.array([[0.2, -0.4]])
        expected = jnp.clip(rlax.add_gaussian_noise(KEY, action, 0.5), -1.0, 1.0)
        np.testing.assert_allclose(exploration.gaussian(KEY, action, 0.5), expected, rtol=1e-6)

    def test_noise_and_action_are_clipped(self):
        """TD3: the noise to 0.5 first, the action to its bounds after."""
        action = jnp.tile(jnp.array([0.0, 0.9]), (DRAWS, 1))
        noisy = exploration.gaussian(KEY, action, 5.0, 0.5)
        np.testing.assert_allclose(noisy.min(0), [-0.5, 0.4], rtol=1e-6)
        np.testing.assert_allclose(noisy.max(0), [0.5, 1.0], rtol=1e-6)
        bounded = exploration.gaussian(KEY, action, 5.0, low=-2.0, high=jnp.array(3.0))
        assert (bounded.min(), bounded.max()) == (-2.0, 3.0)

    def test_deviation_0(self):
        assert exploration.gaussian(KEY, jnp.array([[0.5, -3.0]]), 0.0).tolist() == [[0.5, -1.0]]


class TestOrnsteinUhlenbeck:
    def test_against_rlax(self):
        noise = jnp.array([0.3, -0.2, 0.0])
        expected = rlax.add_ornstein_uhlenbeck_noise(KEY, jnp.zeros(3), noise, 0.15, 0.2)
        np.testing.assert_allclose(exploration.ornstein_uhlenbeck(KEY, noise, 0.15, 0.2), expected, rtol=1e-6)

    def test_moments_in_the_long_run(self):
        """Deviation sigma / sqrt(1 - (1 - theta)^2), correlation (1 - theta)^n over n steps; axes independent."""
        theta, sigma = 0.15, 0.2

        def step(noise, key):
            noise = exploration.ornstein_uhlenbeck(key, noise, theta, sigma)
            return noise, noise

        _, path = jax.lax.scan(step, jnp.zeros((2000, 2)), jax.random.split(KEY, 60))
        early, late = path[49], path[59]
        np.testing.assert_allclose(path[0].std(), sigma, rtol=0.05)
        np.testing.assert_allclose(late.std(0), [sigma / np.sqrt(1 - (1 - theta) ** 2)] * 2, rtol=0.08)
        np.testing.assert_allclose(np.corrcoef(early[:, 0], late[:, 0])[0, 1], (1 - theta) ** 10, atol=0.11)
        assert abs(np.corrcoef(late.T)[0, 1]) < 0.11


class TestUniform:
    @MASKS
    def test_discrete(self, mask):
        drawn = frequencies(lambda key, rows, mask: exploration.uniform_discrete(key, rows.shape[:-1], 4, mask), mask)
        legal = np.ones((3, 4)) if mask is None else mask
        assert_sampled_from(drawn, legal / legal.sum(-1, keepdims=True))

    def test_box(self):
        action = exploration.uniform_box(KEY, (DRAWS, 2))
        assert action.shape == (DRAWS, 2) and action.dtype == jnp.float32
        assert -1.0 <= action.min() < -0.999 and 0.999 < action.max() <= 1.0
        np.testing.assert_allclose(np.quantile(action, [0.25, 0.5, 0.75]), [-0.5, 0.0, 0.5], atol=0.03)


def test_a_population_under_jit_and_vmap():
    """Seeds with rates and temperatures of their own act as they would alone."""

    def act(key, epsilon):
        first, second, third, fourth = jax.random.split(key, 4)
        discrete = exploration.epsilon_greedy(first, jnp.asarray(VALUES), epsilon, MASK)
        discrete += 10 * exploration.boltzmann(second, jnp.asarray(VALUES), epsilon)
        noisy = exploration.gaussian(third, jnp.zeros((3, 2)), epsilon, epsilon)
        return discrete, exploration.ornstein_uhlenbeck(fourth, noisy, epsilon, epsilon)

    keys, rates = jax.random.split(KEY, 2), [0.2, 0.9]
    discrete, continuous = jax.jit(jax.vmap(act))(keys, jnp.array(rates))
    for i, rate in enumerate(rates):
        alone = act(keys[i], rate)
        np.testing.assert_array_equal(discrete[i], alone[0])
        np.testing.assert_allclose(continuous[i], alone[1], rtol=1e-5, atol=1e-6)
