"""The residual torso against Flax's convolution, and what it refuses."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import MLP, PolicyValue, Residual
from jaxrl.networks.residual import padded_patches
from jaxrl.types import Observation


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_padded_patches_and_a_product_are_a_convolution(size):
    x = jax.random.normal(jax.random.key(0), (2, 6, 7, 3))
    kernel = jax.random.normal(jax.random.key(1), (size, size, 3, 4))
    expected = nn.Conv(4, (size, size), use_bias=False).apply({"params": {"kernel": kernel}}, x)
    found = padded_patches(x, size) @ kernel.reshape(-1, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer_norm", [True, False])
def test_every_parameter_gets_a_gradient_and_far_squares_matter(layer_norm):
    torso = Residual(channels=8, blocks=2, planes=2, layer_norm=layer_norm)
    x = jax.random.normal(jax.random.key(0), (4, 6, 7, 2))
    params = jax.jit(torso.init)(jax.random.key(1), x)
    assert jax.eval_shape(torso.apply, params, x).shape == (4, 6 * 7 * 2)
    grads = jax.jit(jax.grad(lambda p: (torso.apply(p, x) ** 2).sum()))(params)
    assert all(jnp.abs(grad).max() > 0 for grad in jax.tree.leaves(grads))
    # Five windows of 3 x 3 see five squares far.
    seen = jax.jit(jax.grad(lambda x: torso.apply(params, x).reshape(4, 6, 7, 2)[0, 0, 0].sum()))(x)[0]
    assert jnp.abs(seen[5, 5]).max() > 0
    assert not seen[:, 6].any()


def test_vectors_are_refused():
    with pytest.raises(ValueError, match="Residual needs boards"):
        Residual().init(jax.random.key(0), jnp.zeros((2, 5)))


@pytest.mark.parametrize("bounded", [True, False])
def test_policy_and_value(bounded):
    network = PolicyValue(MLP(hidden=(8,)), num_actions=3, event_rank=1, bounded=bounded)
    seen = Observation(
        100.0 * jax.random.normal(jax.random.key(0), (16, 5)), jnp.tile(jnp.array([True, False, True]), (16, 1))
    )
    params = network.init(jax.random.key(1), seen)
    params = jax.tree.map(lambda x: 20.0 * x, params)
    outputs = network.apply(params, seen)
    assert outputs.value.shape == (16,)
    assert (jnp.abs(outputs.value) <= 1).all() == bounded
    assert outputs.policy.probs.shape == (16, 3)
    assert not outputs.policy.probs[:, 1].any()
