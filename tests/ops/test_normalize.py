"""Running statistics against NumPy over all samples at once; the return trace against VecNormalize's loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops import normalize, returns

update = jax.jit(normalize.update_statistics)


def statistics_of(batches, shape):
    stats = normalize.init_statistics(shape)
    for batch in batches:
        stats = update(stats, batch)
    return stats


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_batches_of_any_size_are_one(shape):
    rng = np.random.default_rng(0)
    leading = [(), (1,), (4,), (5, 7), (2, 3, 2)]
    batches = [rng.normal(2.0 * i, 1.0 + i, size=(*axes, *shape)).astype(np.float32) for i, axes in enumerate(leading)]
    stats = statistics_of(batches, shape)
    everything = np.concatenate([batch.reshape(-1, *shape) for batch in batches]).astype(float)
    assert stats.num_samples == len(everything) == 53
    np.testing.assert_allclose(stats.mean, everything.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats.variance, everything.var(0), rtol=1e-5)
    np.testing.assert_allclose(normalize.standard_deviation(stats), everything.std(0), rtol=1e-5)


def test_golden():
    """[1, 3], then [5, 7]: w = 1/2, d = 6 - 2 = 4, mean 2 + 4/2 = 4, variance 1 + 1/2 (1 - 1 + 1/2 * 16) = 5."""
    stats = statistics_of([jnp.array([1.0, 3.0]), jnp.array([5.0, 7.0])], ())
    assert [leaf.item() for leaf in stats] == [4.0, 4.0, 5.0]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.bool_, np.float16])
def test_any_dtype_becomes_float32(dtype):
    """uint8 minus a mean would wrap, and its squares overflow."""
    batch = (np.arange(12).reshape(4, 3) * 20 % 256).astype(dtype)
    stats = statistics_of([batch, batch[:1]], (3,))
    expected = np.concatenate([batch, batch[:1]]).astype(float)
    np.testing.assert_allclose(stats.variance, expected.var(0), rtol=1e-4, atol=1e-6)
    assert {leaf.dtype for leaf in stats} == {np.dtype(np.float32)}
    standardized = normalize.standardize(stats, batch)
    assert standardized.dtype == jnp.float32
    expected_standardized = (batch.astype(float) - expected.mean(0)) / np.sqrt(expected.var(0) + 1e-8)
    np.testing.assert_allclose(standardized, expected_standardized, rtol=1e-3, atol=1e-4)


def test_far_from_0():
    """A mean of squares less the square of the mean would leave no digit: 1e8 against 1, in float32's seven."""
    rng = np.random.default_rng(0)
    batches = [rng.normal(1e4, 1.0, size=256).astype(np.float32) for _ in range(20)]
    stats = statistics_of(batches, ())
    everything = np.concatenate(batches).astype(float)
    np.testing.assert_allclose(stats.mean, everything.mean(), rtol=1e-6)
    np.testing.assert_allclose(stats.variance, everything.var(), rtol=1e-3)


def test_past_2_to_the_24_samples():
    """float32 cannot count beyond 2^24 by ones. Batches of 2048, half of them N(-1, 1), half N(3, 1): mean 1, var 5."""
    noise = np.random.default_rng(0).normal(size=2048).astype(np.float32)
    num_batches = 10_000

    @jax.jit
    def run(noise):
        def step(stats, i):
            return normalize.update_statistics(stats, noise + jnp.where(i % 2, 3.0, -1.0)), None

        return jax.lax.scan(step, normalize.init_statistics(()), jnp.arange(num_batches))[0]

    stats = run(noise)
    assert stats.num_samples == num_batches * 2048 > 2**24
    np.testing.assert_allclose(stats.mean, 1.0 + noise.mean(dtype=float), rtol=1e-4)
    np.testing.assert_allclose(stats.variance, 4.0 + noise.var(dtype=float), rtol=1e-4)


def test_a_count_that_stands_still_does_no_harm():
    """At 2^27 adding 4 is lost in float32. Sums of squares would go on or stop at another time, and deviate by up to
    a factor; mean and variance stay where the samples are."""
    batch = jnp.array([1.0 - 1.7, 1.0 + 1.7, 1.0 - 1.7, 1.0 + 1.7])
    start = normalize.RunningStatistics(jnp.float32(2**27), jnp.float32(1.0), jnp.float32(1.7**2))

    @jax.jit
    def run(stats):
        return jax.lax.scan(lambda s, _: (normalize.update_statistics(s, batch), None), stats, length=1_000_000)[0]

    stats = run(start)
    assert stats.num_samples == 2**27
    np.testing.assert_allclose(stats.mean, 1.0, rtol=1e-5)
    np.testing.assert_allclose(stats.variance, 1.7**2, rtol=1e-5)


class TestStandardize:
    def test_before_any_data_it_only_clips(self):
        stats = normalize.init_statistics((2,))
        assert normalize.standard_deviation(stats).tolist() == [1.0, 1.0]
        assert normalize.standardize(stats, jnp.array([[3.0, -40.0]])).tolist() == [[3.0, -10.0]]

    def test_own_samples_get_mean_0_and_deviation_1(self):
        x = np.random.default_rng(0).normal(5.0, 3.0, size=(6, 7, 2)).astype(np.float32)
        z = normalize.standardize(update(normalize.init_statistics((2,)), x), x)
        np.testing.assert_allclose(z.mean((0, 1)), 0.0, atol=1e-5)
        np.testing.assert_allclose(z.std((0, 1)), 1.0, rtol=1e-5)

    def test_features_have_their_own_scale(self):
        stats = update(normalize.init_statistics((2,)), jnp.array([[0.0, 100.0], [2.0, 500.0]]))
        np.testing.assert_allclose(normalize.standardize(stats, jnp.array([2.0, 100.0])), [1.0, -1.0], rtol=1e-6)

    def test_equal_samples(self):
        """A feature that never moved is 0, and clipped when it does."""
        stats = update(normalize.init_statistics(()), jnp.full(8, 0.1))
        assert normalize.standard_deviation(stats) > 0
        np.testing.assert_allclose(normalize.standardize(stats, jnp.array([0.1, 0.2])), [0.0, 10.0], atol=1e-3)

    def test_clip_may_be_traced_and_infinite(self):
        stats = normalize.init_statistics(())
        swept = jax.jit(jax.vmap(lambda clip: normalize.standardize(stats, jnp.array([7.0]), clip)))(
            jnp.array([5.0, jnp.inf])
        )
        assert swept.tolist() == [[5.0], [7.0]]

    def test_a_population_of_statistics(self):
        batches = np.random.default_rng(0).normal(size=(3, 5, 2)).astype(np.float32)
        stats = jax.vmap(lambda batch: normalize.update_statistics(normalize.init_statistics((2,)), batch))(batches)
        np.testing.assert_allclose(stats.mean, batches.mean(1), atol=1e-6)
        np.testing.assert_allclose(stats.variance, batches.var(1), rtol=1e-5)

    @pytest.mark.parametrize("function", [normalize.update_statistics, normalize.standardize])
    @pytest.mark.parametrize("wrong", [(4,), (), (3, 1), (2, 3, 4)])
    def test_shapes_are_checked(self, function, wrong):
        with pytest.raises(ValueError, match=r"must end in \(3,\)"):
            function(normalize.init_statistics((3,)), jnp.zeros(wrong))


class TestDiscountedReturnTrace:
    gamma = 0.9

    def rewards_and_ends(self, length=12, num_envs=4):
        rng = np.random.default_rng(0)
        return rng.normal(size=(length, num_envs)).astype(np.float32), rng.random((length, num_envs)) < 0.3

    def test_against_the_loop_of_vec_normalize(self):
        """returns = returns * gamma + reward; observe; returns[done] = 0."""
        r_t, done_t = self.rewards_and_ends()
        running, expected = np.zeros(4), []
        for reward, done in zip(r_t.astype(float), done_t, strict=True):
            running = running * self.gamma + reward
            expected.append(running.copy())
            running[done] = 0.0
        traces, last = normalize.discounted_return_trace(
            jnp.zeros(4), r_t, np.full(r_t.shape, self.gamma, np.float32), ~done_t
        )
        np.testing.assert_allclose(traces, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(last, running * self.gamma, rtol=1e-5, atol=1e-6)

    def test_rollouts_join(self):
        r_t, done_t = self.rewards_and_ends()
        discount_t = jnp.full(r_t.shape, self.gamma)
        whole, last = normalize.discounted_return_trace(jnp.zeros(4), r_t, discount_t, ~done_t)
        trace, parts = jnp.zeros(4), []
        for part in (slice(0, 1), slice(1, 7), slice(7, 12)):
            traces, trace = normalize.discounted_return_trace(trace, r_t[part], discount_t[part], ~done_t[part])
            parts.append(traces)
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-6)
        np.testing.assert_allclose(trace, last, rtol=1e-6)

    def test_the_last_reward_is_added_to_the_sum_of_its_episode(self):
        """The discount is 0 at a termination; that ends the sum after this reward, and not before it."""
        r_t, terminated = jnp.array([[1.0], [1.0], [1.0]]), jnp.array([[False], [True], [False]])
        discount_t = returns.bootstrap_discount(1.0 - terminated, 0.5)
        continue_t = returns.continues(terminated, jnp.zeros_like(terminated))
        traces, last = normalize.discounted_return_trace(jnp.zeros(1), r_t, discount_t, continue_t)
        assert traces[:, 0].tolist() == [1.0, 1.5, 1.0]
        assert last.tolist() == [0.5]

    def test_it_mirrors_the_discounted_return(self):
        """Backwards in time, the sum to the episode's end is the sum from its start."""
        r_t, done_t = self.rewards_and_ends()
        done_t[-1] = True
        discount_t = np.full(r_t.shape, self.gamma, np.float32)
        ends_backwards = np.concatenate([done_t[:-1][::-1], np.ones((1, 4), bool)])
        mirrored = returns.discounted_returns(r_t, discount_t, np.zeros_like(r_t), ~done_t)
        backwards, _ = normalize.discounted_return_trace(jnp.zeros(4), r_t[::-1], discount_t, ~ends_backwards)
        np.testing.assert_allclose(backwards[::-1], mirrored, rtol=1e-5, atol=1e-6)

    def test_integer_rewards_and_traced_gamma(self):
        r_t, continue_t = jnp.ones((3, 1), jnp.int32), jnp.ones((3, 1), bool)

        @jax.jit
        @jax.vmap
        def of_gamma(gamma):
            return normalize.discounted_return_trace(jnp.zeros(1), r_t, jnp.full((3, 1), gamma), continue_t)[0][:, 0]

        assert of_gamma(jnp.array([0.5, 1.0])).tolist() == [[1.0, 1.5, 1.75], [1.0, 2.0, 3.0]]
