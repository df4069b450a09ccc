"""Low-rank adapters on a language model and on other Flax modules."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import networks, text
from tests.text.test_transformer import MAKERS, TEXTS, init


@pytest.fixture(scope="module")
def setting():
    model = MAKERS["llama"]()
    params = init(model, gain=1.0)
    adapters = text.lora(jax.random.key(0), params, rank=2, kernels="layers_.*kernel")
    return model, params, adapters, text.pad(TEXTS, side="right")


def changed(adapters):
    """With B other than 0."""
    leaves, tree = jax.tree.flatten(adapters)
    noise = [0.3 * jax.random.normal(jax.random.key(i), leaf.shape) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(tree, noise)


def test_logits_are_identical_at_the_start(setting):
    model, params, adapters, (tokens, mask) = setting
    assert len(adapters) == 4 * model.num_layers
    np.testing.assert_array_equal(
        jax.jit(model.apply)(text.merge_lora(params, adapters), tokens, mask)[0],
        jax.jit(model.apply)(params, tokens, mask)[0],
    )


def test_merged_equals_unmerged_with_gradients(setting):
    model, params, adapters, (tokens, mask) = setting

    def merged(adapters):
        return model.apply(text.merge_lora(params, adapters, scale=0.5), tokens, mask)[0]

    def unmerged(adapters):
        return text.apply_lora(model, params, adapters, tokens, mask, scale=0.5)[0]

    def both(function):
        value = lambda adapters: (function(adapters) ** 2).sum()  # noqa: E731
        return jax.jit(lambda adapters: (function(adapters), jax.grad(value)(adapters)))(changed(adapters))

    (logits, gradient), (logits2, gradient2) = both(merged), both(unmerged)
    assert np.abs(logits - model.apply(params, tokens, mask)[0]).max() > 0.1
    np.testing.assert_allclose(logits2, logits, rtol=1e-4, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), gradient2, gradient)


def test_any_module_and_any_kernel():
    """A torso of the library unmerged, and a convolution merged: its kernel ``[3, 3, C, O]`` has 9 C inputs."""
    torso, x = networks.MLP((8, 8)), jnp.ones((2, 5))
    params = torso.init(jax.random.key(0), x)
    adapters = changed(text.lora(jax.random.key(1), params, rank=1))
    np.testing.assert_allclose(
        text.apply_lora(torso, params, adapters, x), torso.apply(text.merge_lora(params, adapters), x), atol=1e-5
    )
    conv, image = nn.Conv(4, (3, 3)), jnp.ones((1, 5, 5, 2))
    params = conv.init(jax.random.key(0), image)
    adapters = changed(text.lora(jax.random.key(1), params, rank=1))
    (factors,) = adapters.values()
    assert factors.a.shape == (18, 1)
    kernel = text.merge_lora(params, adapters)["params"]["kernel"] - params["params"]["kernel"]
    np.testing.assert_allclose(kernel.reshape(18, 4), factors.a @ factors.b, atol=1e-6)
    with pytest.raises(TypeError, match="adapters: got params/kernel"):
        text.apply_lora(conv, params, adapters, image)


@pytest.mark.parametrize(("arguments", "named"), [({"kernels": "nowhere"}, "nowhere"), ({"rank": 0}, "rank: got 0")])
def test_arguments_are_checked(arguments, named):
    with pytest.raises(ValueError, match=named):
        text.lora(jax.random.key(0), {"params": {"dense": {"kernel": np.ones((2, 2))}}}, **arguments)
