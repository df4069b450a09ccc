"""Torsos and what they are fed: against Flax's own layers on the same weights."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import MLP, Conv, default_torso, inputs
from jaxrl.networks.conv import patches
from jaxrl.types import Observation


def test_mlp_against_flax():
    x = jax.random.normal(jax.random.key(0), (5, 3, 2))
    mlp = MLP(hidden=(7, 4), activation="silu")
    params = mlp.init(jax.random.key(1), x)
    weights = params["params"]
    expected = x.reshape(5, 6)
    for i, width in enumerate((7, 4)):
        expected = nn.silu(nn.Dense(width).apply({"params": weights[f"Dense_{i}"]}, expected))
    np.testing.assert_allclose(mlp.apply(params, x), expected, rtol=1e-6, atol=1e-6)


def test_layer_norm_comes_before_the_activation():
    x = jax.random.normal(jax.random.key(0), (5, 6))
    mlp = MLP(hidden=(32,), activation="relu", layer_norm=True)
    params = mlp.init(jax.random.key(1), x)
    y = x @ params["params"]["Dense_0"]["kernel"]
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(np.var(y, -1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(mlp.apply(params, x), np.maximum(y, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("size", "shape"), [(3, (10, 10, 4)), (2, (5, 7, 3)), (3, (3, 3, 1))])
def test_conv_against_flax(size, shape):
    """The patches and the matrix product are a convolution, gradients included."""
    x = jax.random.normal(jax.random.key(0), (2, *shape))
    torso = Conv(channels=(6,), hidden=(), kernel_size=size, activation="tanh")
    params = torso.init(jax.random.key(1), x)
    dense = params["params"]["Dense_0"]
    flax_conv = nn.Conv(6, (size, size), padding="VALID")
    kernel = dense["kernel"].reshape(size, size, shape[-1], 6)

    def by_flax(kernel, bias):
        return jnp.tanh(flax_conv.apply({"params": {"kernel": kernel, "bias": bias}}, x)).reshape(2, -1)

    expected = by_flax(kernel, dense["bias"])
    np.testing.assert_allclose(torso.apply(params, x), expected, rtol=1e-5, atol=1e-5)
    weights = jax.random.normal(jax.random.key(2), expected.shape)
    ours = jax.grad(lambda params: (weights * torso.apply(params, x)).sum())(params)["params"]["Dense_0"]["kernel"]
    theirs = jax.grad(lambda kernel: (weights * by_flax(kernel, dense["bias"])).sum())(kernel)
    np.testing.assert_allclose(ours.reshape(kernel.shape), theirs, rtol=1e-4, atol=1e-5)


def test_layer_norm_of_images_is_over_channels():
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 3))
    plain, normal = (Conv(channels=(4,), hidden=(), activation="tanh", layer_norm=norm) for norm in (False, True))
    params = normal.init(jax.random.key(1), x)
    assert params["params"]["LayerNorm_0"]["scale"].shape == (4,)
    y = np.arctanh(np.asarray(plain.apply({"params": {"Dense_0": params["params"]["Dense_0"]}}, 0.1 * x), np.float64))
    y = y.reshape(2, 3, 3, 4)
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(np.var(y, -1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(normal.apply(params, 0.1 * x), np.tanh(y).reshape(2, -1), rtol=1e-2, atol=1e-3)


def test_conv_then_dense():
    x = jnp.ones((2, 6, 6, 1))
    torso = Conv(channels=(2, 3), hidden=(5, 4))
    params = torso.init(jax.random.key(0), x)["params"]
    assert [params[f"Dense_{i}"]["kernel"].shape for i in range(4)] == [(9, 2), (18, 3), (12, 5), (5, 4)]


def test_patches_refuse_small_images():
    with pytest.raises(ValueError, match="kernel_size: 3 is larger than the image, 2 x 5"):
        patches(jnp.ones((1, 2, 5, 1)), 3)
    with pytest.raises(ValueError, match="use MLP for vectors"):
        Conv().init(jax.random.key(0), jnp.ones((1, 5)))


def test_unknown_activation_is_named():
    with pytest.raises(ValueError, match="activation: got 'tan', allowed are tanh, relu"):
        MLP(activation="tan").init(jax.random.key(0), jnp.ones((1, 5)))


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 51, 255], jnp.uint8, [0.0, 0.2, 1.0]),
        ([-3, 0, 255], jnp.int32, [-3.0, 0.0, 255.0]),
        ([False, True], jnp.bool_, [0.0, 1.0]),
        ([0.5, -2.0], jnp.float16, [0.5, -2.0]),
        ([0.5, 300.0], jnp.float32, [0.5, 300.0]),
    ],
)
def test_as_float(values, dtype, expected):
    floats = inputs.as_float(jnp.array(values, dtype))
    assert floats.dtype == jnp.float32
    np.testing.assert_allclose(floats, expected, rtol=1e-6)


class TestNetworkInput:
    @pytest.mark.parametrize("batch", [(), (4,), (3, 4)], ids=str)
    @pytest.mark.parametrize("event", [(), (5,), (6, 6, 2)], ids=str)
    def test_shapes(self, batch, event):
        x = jnp.arange(np.prod((*batch, *event), dtype=int), dtype=jnp.float32).reshape(*batch, *event)
        made = inputs.network_input(x, None, len(event))
        assert made.shape == (np.prod(batch, dtype=int), *(event or (1,)))
        assert made.reshape(-1).tolist() == x.reshape(-1).tolist()

    def test_goals_lie_beside_features(self):
        made = inputs.network_input(jnp.ones((3, 4, 5)), jnp.full((3, 4, 1, 2), 7, jnp.int32), 1)
        assert made.shape == (12, 7)
        assert made[5].tolist() == [1.0] * 5 + [7.0] * 2

    def test_goals_beside_images_are_refused(self):
        with pytest.raises(ValueError, match="observation.goal"):
            inputs.network_input(jnp.ones((2, 4, 4, 1)), jnp.ones((2, 3)), 3)


@pytest.mark.parametrize(
    ("shape", "kind"), [((10, 10, 4), Conv), ((3, 3, 1), Conv), ((2, 9, 1), MLP), ((4,), MLP), ((4, 4), MLP), ((), MLP)]
)
def test_default_torso(shape, kind):
    leaf = jax.ShapeDtypeStruct(shape, jnp.float32)
    assert isinstance(default_torso(leaf), kind)
    assert isinstance(default_torso(Observation(features=leaf)), kind)
