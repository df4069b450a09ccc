"""Torsos against Flax's own layers, and what goes into them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import MLP, Conv, default_torso
from jaxrl.networks.conv import patches
from jaxrl.networks.inputs import as_float, network_input
from jaxrl.types import Observation


@pytest.mark.parametrize("size", [1, 2, 3])
def test_patches_times_a_matrix_is_a_convolution(size):
    images = jax.random.normal(jax.random.key(0), (5, 7, 6, 3))
    conv = nn.Conv(4, (size, size), padding="VALID")
    params = conv.init(jax.random.key(1), images)
    kernel, bias = params["params"]["kernel"], params["params"]["bias"]
    with jax.numpy_rank_promotion("allow"):
        expected = conv.apply(params, images)
        got = patches(images, size) @ kernel.reshape(-1, 4) + bias
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_conv_refuses_vectors_and_images_below_the_window():
    with pytest.raises(ValueError, match=r"needs images \[N, H, W, C\], got shape \(2, 4\)"):
        Conv().init(jax.random.key(0), jnp.zeros((2, 4)))
    with pytest.raises(ValueError, match="kernel_size: 3 is larger than the image, 2 x 5"):
        Conv().init(jax.random.key(0), jnp.zeros((1, 2, 5, 1)))


def test_mlp_is_the_written_out_product():
    x = jax.random.normal(jax.random.key(0), (3, 2, 2))
    torso = MLP(hidden=(5,), activation="relu")
    params = torso.init(jax.random.key(1), x)
    dense = params["params"]["Dense_0"]
    expected = np.maximum(np.asarray(x).reshape(3, 4) @ np.asarray(dense["kernel"]) + np.asarray(dense["bias"]), 0)
    np.testing.assert_allclose(torso.apply(params, x), expected, rtol=1e-5)


def test_layer_norm_standardises_before_the_activation():
    x = 100.0 * jax.random.normal(jax.random.key(0), (3, 4)) + 50.0
    torso = MLP(hidden=(64,), activation="elu", layer_norm=True)
    y = torso.apply(torso.init(jax.random.key(1), x), x)
    assert np.abs(np.asarray(y)).max() < 10


def test_unknown_activation_lists_the_known():
    with pytest.raises(ValueError, match="activation: got 'swich', allowed are tanh, relu, gelu, silu, elu"):
        MLP(activation="swich").init(jax.random.key(0), jnp.zeros((1, 2)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.uint8(255), 1.0),
        (np.int32(255), 255.0),
        (np.int8(-3), -3.0),
        (np.bool_(True), 1.0),
        (np.float16(0.5), 0.5),
        (np.uint32(3_000_000_000), 3e9),
    ],
)
def test_only_pixels_are_scaled(value, expected):
    converted = as_float(jnp.asarray(value))
    assert converted.dtype == jnp.float32
    np.testing.assert_allclose(converted, expected, rtol=1e-6)


def test_inputs_flatten_the_batch_and_lay_goals_beside():
    features, goal = jnp.arange(12.0).reshape(2, 3, 2), jnp.ones((2, 3, 2, 2), jnp.int32)
    assert network_input(features, None, 1).shape == (6, 2)
    beside = network_input(features, goal, 1)
    assert beside.shape == (6, 6)
    np.testing.assert_array_equal(beside[4], [8, 9, 1, 1, 1, 1])
    assert network_input(jnp.zeros((2, 3), jnp.int32), None, 0).shape == (6, 1)
    with pytest.raises(ValueError, match="goals go beside vector features only"):
        network_input(jnp.zeros((2, 4, 4, 1)), jnp.zeros((2, 3)), 3)


def test_the_default_torso_follows_the_observation():
    shape = lambda *axes: jax.ShapeDtypeStruct(axes, jnp.float32)  # noqa: E731
    assert isinstance(default_torso(shape(10, 10, 4)), Conv)
    assert isinstance(default_torso(shape(2, 10, 4)), MLP)
    assert isinstance(default_torso(Observation(features=shape(4))), MLP)
