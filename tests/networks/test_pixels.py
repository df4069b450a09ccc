"""Torsos for screens: sizes by the papers' layers, values against XLA's convolution on the same weights."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import GRU, ImpalaCNN, NatureCNN

SCREENS = jax.ShapeDtypeStruct((1, 84, 84, 4), jnp.uint8)


def conv(weights, x, size, stride, padding):
    """A convolution with the weights of a dense layer over windows, which consist of blocks as large as the stride."""
    channels, blocks = x.shape[-1], size // stride
    kernel = weights["kernel"].reshape(blocks, blocks, stride, stride, channels, -1)
    kernel = kernel.swapaxes(1, 2).reshape(size, size, channels, -1)
    dimensions = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=dimensions)
    return y + weights["bias"][None, None, None]


@pytest.mark.parametrize(
    ("torso", "features", "size"),
    [
        # 8*8*4*32 + 32, 4*4*32*64 + 64, 3*3*64*64 + 64, and a dense layer on 7 x 7 x 64.
        (NatureCNN(), 512, 8_224 + 32_832 + 36_928 + (3_136 * 512 + 512)),
        # A stage is a convolution to its width and four within it; a dense layer on 11 x 11 x 32.
        (ImpalaCNN(), 256, (592 + 4 * 2_320) + (4_640 + 4 * 9_248) + 5 * 9_248 + (3_872 * 256 + 256)),
    ],
)
def test_sizes_are_the_papers(torso, features, size):
    output, params = jax.eval_shape(lambda x: torso.init_with_output(jax.random.key(0), x), SCREENS)
    assert output.shape == (1, features)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == size


def test_nature_against_the_convolutions_by_hand():
    x = jax.random.randint(jax.random.key(0), (2, 3, 44, 40, 2), 0, 256, jnp.uint8)
    torso = NatureCNN(hidden=(5,))
    params = torso.init(jax.random.key(1), x)
    weights = params["params"]
    y = x.reshape(6, 44, 40, 2) / 255.0
    for i, (size, stride) in enumerate(((8, 4), (4, 2), (3, 1))):
        y = jnp.maximum(conv(weights[f"Dense_{i}"], y, size, stride, "VALID"), 0)
    dense = weights["Dense_3"]
    expected = jnp.maximum(y.reshape(6, -1) @ dense["kernel"] + dense["bias"][None], 0).reshape(2, 3, 5)
    np.testing.assert_allclose(torso.apply(params, x), expected, rtol=1e-4, atol=1e-5)


def test_impala_against_the_convolutions_by_hand():
    x = jax.random.normal(jax.random.key(0), (2, 9, 8, 3))
    torso = ImpalaCNN(channels=(4,), hidden=())
    params = torso.init(jax.random.key(1), x)
    first, *blocks = (params["params"][f"Dense_{i}"] for i in range(5))
    padded = np.pad(conv(first, x, 3, 1, "SAME"), ((0, 0), (1, 1), (0, 1), (0, 0)), constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    y = windows.max((-1, -2))
    for one, two in (blocks[:2], blocks[2:]):
        y = y + conv(two, jnp.maximum(conv(one, jnp.maximum(y, 0), 3, 1, "SAME"), 0), 3, 1, "SAME")
    np.testing.assert_allclose(torso.apply(params, x), jnp.maximum(y, 0).reshape(2, -1), rtol=1e-4, atol=1e-5)


def test_what_is_no_screen_is_refused():
    with pytest.raises(ValueError, match=r"torso: got observations \(1, 35, 84, 4\), NatureCNN .* 36 x 36"):
        jax.eval_shape(NatureCNN().init, jax.random.key(0), jax.ShapeDtypeStruct((1, 35, 84, 4), jnp.uint8))
    with pytest.raises(ValueError, match=r"torso: got observations \(1, 8\), ImpalaCNN"):
        jax.eval_shape(ImpalaCNN().init, jax.random.key(0), jax.ShapeDtypeStruct((1, 8), jnp.float32))


def test_memory_encodes_screens_by_the_nature_network():
    x, memory = jax.ShapeDtypeStruct((2, 3, 84, 84, 1), jnp.uint8), jax.ShapeDtypeStruct((3, 64), jnp.float32)
    params = jax.eval_shape(GRU().init, jax.random.key(0), x, memory, jax.ShapeDtypeStruct((2, 3), jnp.bool_))
    assert params["params"]["NatureCNN_0"]["Dense_3"]["kernel"].shape == (3_136, 64)
