"""The orthogonal initialiser: orthonormal for every shape, random, and safe under vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxrl.networks import orthogonal


@pytest.mark.parametrize("shape", [(64, 64), (4, 64), (64, 2), (512, 512), (3, 3, 4, 16), (1, 1), (128, 1)])
def test_directions_are_orthonormal_up_to_the_scale(shape):
    weights = orthogonal(2.0)(jax.random.key(0), shape)
    matrix = np.asarray(weights, np.float64).reshape(-1, shape[-1])
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    assert weights.shape == shape and weights.dtype == jnp.float32
    np.testing.assert_allclose(gram, 4.0 * np.eye(len(gram)), atol=4e-5)


def test_vmap_equals_a_loop_and_keys_differ():
    keys = jax.random.split(jax.random.key(1), 5)
    init = lambda key: orthogonal(1.0)(key, (16, 8))  # noqa: E731
    batched = jax.vmap(init)(keys)
    np.testing.assert_allclose(batched, jnp.stack([init(key) for key in keys]), atol=1e-5)
    assert np.ptp(np.asarray(batched), axis=0).min() > 0


def test_uniform_over_orthogonal_matrices():
    # An entry of a uniform orthogonal n x n matrix squared is Beta(1/2, (n - 1)/2).
    keys = jax.random.split(jax.random.key(2), 2000)
    entries = np.asarray(jax.vmap(lambda key: orthogonal(1.0)(key, (4, 4))[2, 3])(keys))
    assert stats.kstest(entries**2, stats.beta(0.5, 1.5).cdf).pvalue > 1e-3
    assert abs((entries > 0).mean() - 0.5) < 0.05


def test_a_vector_is_refused():
    with pytest.raises(ValueError, match="shape must have at least 2 axes"):
        orthogonal()(jax.random.key(0), (3,))
