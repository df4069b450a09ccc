"""Initialisers: the orthogonal one, orthonormal, uniform and safe under vmap; the Gaussian one, of its variance."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl.networks import orthogonal
from jaxrl.networks.initializers import gaussian


@pytest.mark.parametrize(
    "shape", [(64, 8), (8, 64), (32, 32), (512, 512), (200, 130), (1, 5), (5, 1), (3, 3, 4, 16)], ids=str
)
def test_orthonormal(shape):
    weights = np.asarray(jax.jit(lambda key: orthogonal(1.0)(key, shape))(jax.random.key(0)), np.float64)
    assert weights.shape == shape
    matrix = weights.reshape(-1, shape[-1])
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


@pytest.mark.parametrize("scale", [0.01, 1.0, 3.0])
def test_scale_is_every_singular_value(scale):
    weights = orthogonal(scale)(jax.random.key(1), (20, 6))
    np.testing.assert_allclose(np.linalg.svd(weights, compute_uv=False), scale, rtol=1e-5)


def test_default_scale_is_sqrt_2():
    np.testing.assert_allclose(np.linalg.svd(orthogonal()(jax.random.key(1), (6, 20)), compute_uv=False), 2**0.5, 1e-5)


def test_uniform():
    """Haar measure: E W = 0, E W^2 = 1/n, and a rotation of all matrices changes neither this nor the fourth moment."""
    n = 4
    draws = jax.jit(jax.vmap(lambda key: orthogonal(1.0)(key, (n, n))))(jax.random.split(jax.random.key(2), 20_000))
    draws = np.asarray(draws, np.float64)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]
    for matrices in (draws, rotation @ draws, draws @ rotation):
        # Deviations of the means: 0.5 / sqrt(20000) = 0.0035, and less for the even moments.
        np.testing.assert_allclose(matrices.mean(0), 0.0, atol=0.018)
        np.testing.assert_allclose((matrices**2).mean(0), 1 / n, atol=0.01)
        np.testing.assert_allclose((matrices**4).mean(0), 3 / (n * (n + 2)), atol=0.01)
    assert abs((np.linalg.det(draws) > 0).mean() - 0.5) < 0.02


def test_keys_and_vmap():
    """Each seed's matrix under vmap is that of its own key."""
    init = jax.jit(lambda key: orthogonal()(key, (16, 16)))
    keys = jax.random.split(jax.random.key(3), 3)
    together = jax.jit(jax.vmap(init))(keys)
    np.testing.assert_allclose(together, np.stack([init(key) for key in keys]), atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 0.1


def test_no_factorisation_inside():
    """Two batched QR factorisations in one program deadlock: the program must have none."""
    program = str(jax.make_jaxpr(jax.vmap(lambda key: orthogonal()(key, (8, 8))))(jax.random.split(jax.random.key(0))))
    assert not re.search(r"\b(qr|householder\w*|geqrf|svd|cholesky|\w*custom_call)\b", program)
    assert re.search(r"\bqr\b", str(jax.make_jaxpr(jnp.linalg.qr)(jnp.ones((3, 3)))))


def test_dtype_and_refusal():
    assert orthogonal()(jax.random.key(0), (4, 4), jnp.bfloat16).dtype == jnp.bfloat16
    with pytest.raises(ValueError, match="at least 2 axes"):
        orthogonal()(jax.random.key(0), (4,))


@pytest.mark.parametrize("shape", [(400, 50), (20, 1000), (3, 3, 40, 100)], ids=str)
def test_gaussian_keeps_the_variance_of_inputs_times_its_gain(shape):
    weights = np.asarray(gaussian(0.5)(jax.random.key(0), shape)).reshape(-1)
    deviation = 0.5 / np.sqrt(np.prod(shape[:-1]))
    np.testing.assert_allclose(weights.std(), deviation, rtol=0.03)
    assert scipy.stats.kstest(weights / deviation, "norm").pvalue > 1e-3
