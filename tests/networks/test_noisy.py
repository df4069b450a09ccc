"""The noisy layer: its noise recovered from its outputs and compared with the paper's formula."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from jaxrl.networks import NoisyDense

P, Q = 6, 4
LAYER = NoisyDense(Q)
PARAMS = LAYER.init(jax.random.key(0), jnp.ones((1, P)))
X = jax.random.normal(jax.random.key(7), (5, P))


@jax.jit
def noises(key):
    """The noise of the weights ``[P, Q]`` and of the biases ``[Q]``, from the outputs at zero and at unit vectors."""
    means = PARAMS["params"]
    inputs = jnp.concatenate([jnp.zeros((1, P)), jnp.eye(P)])
    y = LAYER.apply(PARAMS, inputs, rngs={"noise": key})
    weights = (y[1:] - y[:1] - means["kernel"]) / means["kernel_scale"]
    return weights, (y[0] - means["bias"]) / means["bias_scale"]


def test_without_noise_it_is_the_dense_layer_of_the_means():
    means = PARAMS["params"]
    expected = np.asarray(X) @ np.asarray(means["kernel"]) + np.asarray(means["bias"])
    np.testing.assert_allclose(LAYER.apply(PARAMS, X), expected, rtol=1e-5, atol=1e-6)


def test_noise_is_factorised():
    """``eps_w = f(e_in) f(e_out)^T`` and ``eps_b = f(e_out)``, with ``f(e) = sign(e) sqrt|e|`` of Gaussians."""
    weights, biases = jax.vmap(noises)(jax.random.split(jax.random.key(1), 2000))
    weights, biases = np.asarray(weights, np.float64), np.asarray(biases, np.float64)
    loud = np.abs(biases).argmax(-1)
    draws = np.arange(len(biases))
    factor_in = weights[draws, :, loud] / biases[draws, loud][:, None]
    np.testing.assert_allclose(weights, factor_in[:, :, None] * biases[:, None, :], atol=2e-4)
    for factor in (factor_in, biases):
        gaussian = factor * np.abs(factor)  # the inverse of f
        assert scipy.stats.kstest(gaussian.reshape(-1), "norm").pvalue > 1e-3
        correlation = np.corrcoef(gaussian.T) - np.eye(gaussian.shape[1])
        assert np.abs(correlation).max() < 5 / 2000**0.5
    assert np.abs(np.corrcoef(factor_in.T, biases.T)[:P, P:]).max() < 5 / 2000**0.5


def test_one_noise_for_the_whole_batch_and_a_new_one_each_call():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = NoisyDense(Q)
            return layer(x), layer(x)

    params = Twice().init(jax.random.key(0), X)
    same_rows = jnp.broadcast_to(X[:1], X.shape)
    first, second = Twice().apply(params, same_rows, rngs={"noise": jax.random.key(2)})
    np.testing.assert_allclose(first, np.broadcast_to(first[:1], first.shape), rtol=1e-6)
    assert np.abs(first - second).min() > 1e-4
    again, _ = Twice().apply(params, same_rows, rngs={"noise": jax.random.key(2)})
    other, _ = Twice().apply(params, same_rows, rngs={"noise": jax.random.key(3)})
    assert (first == again).all() and np.abs(first - other).min() > 1e-4


def test_initial_values():
    """Means uniform within 1 / sqrt(p), scales sigma_0 / sqrt(p), for p inputs."""
    p, q = 400, 300
    params = NoisyDense(q).init(jax.random.key(0), jnp.ones((1, p)))["params"]
    assert {name: leaf.shape for name, leaf in params.items()} == {
        "kernel": (p, q),
        "bias": (q,),
        "kernel_scale": (p, q),
        "bias_scale": (q,),
    }
    assert all(leaf.dtype == jnp.float32 for leaf in params.values())
    for name in ("kernel", "bias"):
        uniform = (np.asarray(params[name]).reshape(-1) * p**0.5 + 1) / 2
        assert scipy.stats.kstest(uniform, "uniform").pvalue > 1e-3
    np.testing.assert_allclose(params["kernel_scale"], 0.5 / p**0.5, rtol=1e-6)
    np.testing.assert_allclose(params["bias_scale"], 0.5 / p**0.5, rtol=1e-6)


def test_sigma_may_be_traced():
    def deviation(sigma):
        layer = NoisyDense(Q, sigma)
        params = layer.init(jax.random.key(0), X)
        return layer.apply(params, X, rngs={"noise": jax.random.key(1)}) - layer.apply(params, X)

    none, half, one = jax.vmap(deviation)(jnp.array([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(none, 0.0, atol=1e-6)
    np.testing.assert_allclose(one, 2 * half, rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_scales_through_the_noise_alone():
    def loss(params, rngs):
        return jnp.square(LAYER.apply(params, X, rngs=rngs)).sum()

    noisy = jax.grad(loss)(PARAMS, {"noise": jax.random.key(1)})["params"]
    assert all(np.abs(leaf).min() > 0 for leaf in jax.tree.leaves(noisy))
    quiet = jax.grad(loss)(PARAMS, {})["params"]
    assert np.abs(quiet["kernel"]).min() > 0
    assert not quiet["kernel_scale"].any() and not quiet["bias_scale"].any()


def test_more_batch_axes():
    x = X.reshape(5, 1, P)
    np.testing.assert_allclose(LAYER.apply(PARAMS, x)[:, 0], LAYER.apply(PARAMS, X), rtol=1e-6)
