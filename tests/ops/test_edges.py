"""Public functions of ops at the edges of their dtype: finite, of the same dtype, and right beside float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.ops import distributional, exploration, normalize, numerics, outcomes, policy_gradient, returns, td, value
from jaxrl.types import Box

DTYPES = ("float16", "bfloat16", "float32", "float64")
T, N, A = 3, 200, 4
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def with_64_bits():
    """So that a literal or a default dtype that widens a result shows."""
    with jax.enable_x64(True):
        yield


def drawn(dtype, *shape, share=1.0, seed=0):
    """Ordinary and extreme numbers in any combination, as float64 that the dtype holds."""
    top, tiny = (float(getattr(jnp.finfo(dtype), name)) for name in ("max", "tiny"))
    pool = np.array([0.0, 1.0, -1.0, 0.3, -2.5, tiny, -tiny, share * top, -share * top, 0.3 * share * top])
    picked = np.random.default_rng(seed).choice(pool, shape)
    return np.asarray(jnp.asarray(picked, dtype), np.float64)


def agree(dtype, result, expected, scale=1.0):
    """Equal up to a few roundings of ``scale``, the largest number on the way."""
    assert result.dtype == dtype
    found = np.asarray(result, np.float64)
    assert np.isfinite(found).all()
    error = np.abs(found - expected) / np.maximum(scale, np.finfo(float).tiny)
    assert error.max() <= 32 * float(jnp.finfo(dtype).eps)


def recursion(offset, slope):
    x, found = 0.0, []
    for a, b in zip(offset[::-1], slope[::-1], strict=True):
        x = a + b * x
        found.append(x)
    return np.array(found[::-1])


def mixed(r, d, v, goes_on, lambda_):
    goes_on = goes_on & (np.arange(T) < T - 1)[:, None]
    return recursion(r + np.where(goes_on, 1 - lambda_, 1.0) * d * v, np.where(goes_on, lambda_ * d, 0.0))


OVER_TIME = {
    "lambda_returns": (
        lambda r, d, u, v, c: returns.lambda_returns(r, d, v, c, 0.5),
        lambda r, d, u, v, c: mixed(r, d, v, c, 0.5),
    ),
    "n_step_returns": (
        lambda r, d, u, v, c: returns.n_step_returns(r, d, v, c, T),
        lambda r, d, u, v, c: mixed(r, d, v, c, 1.0),
    ),
    "gae": (
        lambda r, d, u, v, c: returns.gae(r, d, u, v, c, 0.5),
        lambda r, d, u, v, c: recursion(r + d * v - u, np.where(c, 0.5 * d, 0.0)),
    ),
    "vtrace": (  # so far off the policy that every ratio is clipped to 1
        lambda r, d, u, v, c: returns.vtrace(r, d, u, v, c, jnp.full_like(r, jnp.finfo(r.dtype).max)).vs,
        lambda r, d, u, v, c: u + recursion(r + d * v - u, np.where(c, d, 0.0)),
    ),
    "open_returns": (
        lambda r, d, u, v, c: outcomes.open_returns(r, d, v, c)[0],
        lambda r, d, u, v, c: recursion(r + np.where(c, 0.0, d * v), np.where(c, d, 0.0)),
    ),
    "discounted_return_trace": (
        lambda r, d, u, v, c: normalize.discounted_return_trace(jnp.zeros_like(r[0]), r, d, c)[0],
        lambda r, d, u, v, c: recursion(r[::-1], np.append(0 * d[:1], c[:-1] * d[:-1], axis=0)[::-1])[::-1],
    ),
    "td_error": (lambda r, d, u, v, c: td.td_error(u, r, d, v), lambda r, d, u, v, c: r + d * v - u),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OVER_TIME)
def test_recursions_over_time(name, dtype):
    function, oracle = OVER_TIME[name]
    r, u, v = (drawn(dtype, T, N, share=1 / 16, seed=seed) for seed in range(3))
    random = np.random.default_rng(3)
    d, c = random.choice([0.0, 1.0, -1.0, 0.5], (T, N)), random.random((T, N)) < 0.7
    given = [jnp.asarray(x, dtype) for x in (r, d, u, v)]
    result = jax.jit(function)(*given, jnp.asarray(c))
    agree(dtype, result, oracle(r, d, u, v, c), scale=T * np.max(np.abs([r, u, v]), axis=(0, 1)))


def softmax(x):
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_distributions_over_actions(dtype):
    logits, other = (drawn(dtype, N, A, share=0.25, seed=seed) for seed in range(2))
    p, given = softmax(logits), jnp.asarray(logits, dtype)
    entropy = -np.sum(p * np.log(np.where(p > 0, p, 1.0)), -1)
    agree(dtype, policy_gradient.categorical_entropy(given), entropy)
    wild = jnp.asarray(drawn(dtype, N, A), dtype)
    for found in (
        policy_gradient.categorical_entropy(wild),
        policy_gradient.categorical_kl(given, jnp.asarray(other, dtype)),
        numerics.log_softmax(wild),
        jax.grad(lambda x: policy_gradient.categorical_entropy(x).sum())(wild),
        td.soft_value(given / 8, wild, 0.5),
    ):
        assert found.dtype == dtype and np.isfinite(np.asarray(found, float)).all()
    assert (policy_gradient.categorical_kl(given, jnp.asarray(other, dtype)) >= -0.1).all()
    ratio = policy_gradient.surrogate_term(wild, jnp.ones_like(wild))
    assert np.isfinite(np.asarray(ratio, float)).all() and (ratio <= 0).all()
    assert np.isfinite(np.asarray(policy_gradient.approximate_kl(wild), float)).all()
    assert np.isfinite(np.asarray(policy_gradient.ppo_clip_term(wild, jnp.ones_like(wild), 0.2), float)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_choices(dtype):
    values = drawn(dtype, N, A)
    given, mask = jnp.asarray(values, dtype), np.random.default_rng(1).random((N, A)) < 0.5
    mask[:, 0] |= ~mask.any(-1)
    legal = np.where(mask, values, -np.inf)
    agree(dtype, td.masked_max(given, jnp.asarray(mask)), legal.max(-1), scale=np.abs(values).max(-1))
    np.testing.assert_array_equal(td.masked_argmax(given, jnp.asarray(mask)), legal.argmax(-1))
    greedy = np.eye(A)[legal.argmax(-1)]
    expected = 0.5 * greedy + 0.5 * mask / mask.sum(-1, keepdims=True)
    agree(dtype, exploration.epsilon_greedy_probs(given, 0.5, jnp.asarray(mask)), expected)
    # A temperature below the dtype's resolution is the greedy policy, equals alike.
    plain = np.where(np.abs(values) < 0.1, 0.0, values)
    best = mask & (plain == np.where(mask, plain, -np.inf).max(-1, keepdims=True))
    probs = exploration.boltzmann_probs(jnp.asarray(plain, dtype), 1e-30, jnp.asarray(mask))
    agree(dtype, probs, best / best.sum(-1, keepdims=True))
    for sample in (exploration.boltzmann, exploration.epsilon_greedy):
        action = sample(KEY, given, 1e-12, jnp.asarray(mask))
        assert action.dtype == jnp.int32 and mask[np.arange(N), action].all()
    noisy = exploration.gaussian(KEY, given, 0.1)
    assert noisy.dtype == dtype and (jnp.abs(noisy) <= 1).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_advantages_are_0_and_large_ones_keep_their_order(dtype):
    assert policy_gradient.normalize_advantage(jnp.full(4, 0.3, dtype)).tolist() == [0.0] * 4
    large = 60000.0 if dtype == "float16" else 1e15
    for weight in (None, jnp.ones(4, dtype)):
        found = policy_gradient.normalize_advantage(jnp.array([large, -large] * 2, dtype), weight)
        agree(dtype, found, np.array([1.0, -1.0] * 2))
    explained = value.explained_variance(jnp.array([large, -large], dtype), jnp.array([large, -large], dtype))
    assert float(explained) == 1.0


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_the_variance_explained_has_no_unit(dtype):
    top = float(jnp.finfo(dtype).max)
    found = value.explained_variance(jnp.array([0.5, -0.5], dtype) * top, jnp.array([1.0, -1.0], dtype) * top)
    np.testing.assert_allclose(found, 0.75, rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics_are_float32_and_survive_the_largest_numbers(dtype):
    top = float(jnp.finfo(dtype).max)
    stats = normalize.update_statistics(normalize.init_statistics(()), jnp.array([top, -top], dtype))
    for sample in ([top, top], [0.0, 1.0], [-top, 0.0]):
        stats = normalize.update_statistics(stats, jnp.array(sample, dtype))
        assert all(leaf.dtype == jnp.float32 and np.isfinite(leaf) for leaf in stats)
    assert np.isfinite(normalize.standardize(stats, jnp.array([top, -top, 0.0], dtype))).all()
    equal = normalize.update_statistics(normalize.init_statistics(()), jnp.full(8, 3.0, dtype))
    assert normalize.standardize(equal, jnp.full(2, 3.0, dtype)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_as_histograms(dtype):
    top = float(jnp.finfo(dtype).max)
    end = top if dtype == "float16" else 0.25 * top
    for support in (np.array([-end, 0.0, end]), np.array([-1.0, 0.0, 2.0])):
        values = np.asarray(jnp.asarray(np.linspace(support[0], support[-1], 9), dtype), float)
        found = distributional.two_hot(jnp.asarray(values, dtype), jnp.asarray(support, dtype))
        expected = np.stack([np.interp(values, support, row) for row in np.eye(3)], -1)
        agree(dtype, found, expected)
    edges = jnp.asarray([-1.0, 0.0, 1.0, 2.0], dtype)
    for sigma in (1e-30, 0.5, 1e30):
        found = distributional.hl_gauss(jnp.asarray([0.5, top, -top], dtype), edges, sigma)
        assert found.dtype == dtype
        np.testing.assert_allclose(np.asarray(found, float).sum(-1), 1.0, atol=0.02)
    np.testing.assert_allclose(
        np.asarray(distributional.hl_gauss(jnp.asarray(0.5, dtype), edges, 1e30), float), 1 / 3, atol=3e-3
    )
    tau = jnp.asarray([0.25, 0.75], dtype)
    for kappa in (0.0, 1e-30, 1.0):
        term = distributional.quantile_huber_term(jnp.asarray([0.0, 2.0], dtype), tau * 8, tau, kappa)
        assert term.dtype == dtype and np.isfinite(np.asarray(term, float)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_compressed_values_and_their_inverse(dtype):
    top = float(jnp.finfo(dtype).max)
    x = np.array([0.0, 1.0, -3.0, 50.0, top, -top])
    expected = np.sign(x) * (np.sqrt(np.abs(x) + 1.0) - 1.0) + 1e-3 * x
    agree(dtype, value.compress(jnp.asarray(x, dtype)), expected, scale=np.maximum(1.0, np.abs(expected)))
    # The inverse of the largest number is infinite, of no other sign, and no NaN.
    for epsilon in (1e-3, 0.5, 1.0):
        found = value.expand(jnp.asarray([top, -top], dtype), epsilon)
        assert found.dtype == dtype and found[0] > 0 > found[1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_box_at_the_ends_of_its_dtype(dtype):
    top = float(jnp.finfo(dtype).max)
    action = jnp.asarray([-1.0, 0.0, 0.5, 1.0, 7.0], dtype)
    for low, high in ((-top, top), (0.0, top), (-0.75 * top, 0.5 * top), (-2.0, 2.0), (-0.1, 0.7)):
        ends = np.asarray(jnp.asarray([low, high], dtype), float)
        share = np.array([0.0, 0.5, 0.75, 1.0, 1.0])
        expected = ends[0] * (1 - share) + ends[1] * share
        found = Box((5,), np.float64(low), np.float64(high)).from_unit(action)
        agree(dtype, found, expected, scale=np.abs(ends).max())
        assert (found >= ends[0].astype(found.dtype)).all() and (found <= ends[1].astype(found.dtype)).all()
    np.testing.assert_array_equal(Box((5,), -np.inf, 2.0).from_unit(action), jnp.minimum(action, 2.0))


def test_bounds_of_the_bug_report():
    found = Box((1,), -3.4e38, 3.4e38).from_unit(jnp.array([-1.0, 0.0, 0.5, 1.0], jnp.float32))
    np.testing.assert_allclose(found, np.array([-3.4e38, 0.0, 1.7e38, 3.4e38]), rtol=1e-6)
    # Bounds that float16 can't hold are none.
    half = Box((1,), -3.4e38, 3.4e38).from_unit(jnp.array([-1.0, 0.25], jnp.float16))
    assert half.tolist() == [-1.0, 0.25]


@pytest.mark.parametrize("dtype", DTYPES)
def test_differences_that_the_dtype_cannot_hold(dtype):
    """Of the largest numbers and their negatives, measured in units as large."""
    top = float(jnp.finfo(dtype).max)
    probs = exploration.boltzmann_probs(jnp.array([top, -top, top], dtype), top)
    agree(dtype, probs, softmax(np.array([1.0, -1.0, 1.0])))
    # Edges at -1, 0 and 1, a Gaussian around a half, all times the largest number: Phi(-1.5), Phi(-0.5) and Phi(0.5).
    histogram = distributional.hl_gauss(jnp.array(0.5 * top, dtype), jnp.array([-top, 0.0, top], dtype), top)
    agree(dtype, histogram, np.array([0.2417303, 0.3829249]) / 0.6246552, scale=1e-7 / float(jnp.finfo(dtype).eps) + 1)
    loss = distributional.categorical_cross_entropy_term(
        jnp.array([top, -top, -jnp.inf], dtype), jnp.array([1.0, 0.0, 0.0], dtype)
    )
    assert loss.dtype == dtype and float(loss) == 0.0
    agree(dtype, distributional.bin_centers(jnp.array([0.5 * top, top], dtype)), np.array([0.75 * top]), scale=top)


def test_a_quadratic_loss_fits_where_its_square_does_not():
    """Errors of 1000 within a kappa of 2000: 0.5 * 1000^2 / 2000, times tau 0.5; the square is no float16."""
    term = distributional.quantile_huber_term(
        jnp.zeros(1, jnp.float16), jnp.full(1, 1000.0, jnp.float16), jnp.full(1, 0.5, jnp.float16), 2000.0
    )
    assert term.dtype == jnp.float16 and float(term) == 125.0
