"""What must hold of the installed versions, and of all that JAX may compile in them."""

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest


@pytest.mark.parametrize("num_rows", [32_768, 32_769, 40_000])
def test_a_vmapped_product_with_a_reduction_is_right(num_rows):
    """jax 0.10.2 on CPU is wrong by 0.8% from 32,769 rows on, see jax-ml/jax#39103 and docs/installation.md."""
    rows = np.zeros((num_rows, 3), np.float32)
    rows[:, 0] = np.arange(num_rows)
    matrix = jnp.eye(3)
    found = jax.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)))(rows)
    expected = (rows.astype(np.float64) ** 2).sum(axis=1)
    versions = f"jax {jax.__version__} with jaxlib {jaxlib.__version__} computes jit(vmap(matrix @ row)) wrong"
    np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=f"{versions}; install another version")
