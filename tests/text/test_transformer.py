"""The transformer: padding, causality, precision, and what it refuses. Its numbers are in test_hugging_face.py."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import text

MAKERS = {
    "gpt2": partial(text.gpt2, 11, width=8, num_layers=2, num_heads=2, max_length=16),
    "llama": partial(text.llama, 11, width=8, num_layers=2, num_heads=2, num_kv_heads=1, max_length=16),
}
TEXTS = [[3, 1, 4, 1, 5], [9, 2]]


def init(model, gain=8.0):
    """Parameters far from the start, where attention has an effect; Flax's biases are 0 and scales 1."""
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 1), int), jnp.ones((1, 1), bool))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [gain * x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, noisy)


@pytest.fixture(scope="module", params=list(MAKERS))
def model(request):
    return MAKERS[request.param]()


@pytest.fixture(scope="module")
def params(model):
    return init(model)


@pytest.fixture(scope="module")
def loss_and_gradient(model):
    """Log-probabilities ``[B, T - 1]`` of each text's own tokens, and the gradient of their sum."""

    def objective(params, tokens, mask):
        logits, hidden = model.apply(params, tokens, mask)
        ids = jnp.clip(tokens, 0, 10)
        # The token that follows in the text is the next true one.
        rows = jnp.arange(tokens.shape[1])
        after = (rows[None, None] > rows[None, :, None]) & mask[:, None]
        follows, has = jnp.argmax(after, axis=-1), mask & after.any(axis=-1)
        target = jnp.take_along_axis(ids, follows, axis=1)
        log_probs = jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], axis=-1)[..., 0]
        return jnp.where(has, log_probs, 0.0).sum(), (log_probs, has)

    return jax.jit(jax.value_and_grad(objective, has_aux=True))


def padded(place, junk):
    """The texts with 8 columns and the padding somewhere, filled with ``junk``."""
    tokens, mask = np.full((2, 8), junk, np.int32), np.zeros((2, 8), bool)
    for row, ids in enumerate(TEXTS):
        n = len(ids)
        columns = {"left": range(8 - n, 8), "right": range(n), "middle": [0, *range(9 - n, 8)]}[place]
        for column, token in zip(columns, ids, strict=True):
            tokens[row, column], mask[row, column] = token, True
    return tokens, mask


@pytest.mark.parametrize("place", ["left", "right", "middle"])
@pytest.mark.parametrize("junk", [0, 10**9, -5])
def test_padding_changes_neither_log_probabilities_nor_loss_nor_gradient(loss_and_gradient, params, place, junk):
    tokens, mask = text.pad(TEXTS, side="right")
    (loss, (log_probs, has)), gradient = loss_and_gradient(params, tokens, mask)
    (loss2, (log_probs2, has2)), gradient2 = loss_and_gradient(params, *padded(place, junk))
    assert has.sum() == has2.sum() == sum(len(ids) - 1 for ids in TEXTS)
    np.testing.assert_allclose(log_probs2[has2], log_probs[has], atol=1e-5)
    np.testing.assert_allclose(loss2, loss, rtol=1e-5)
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(b).max() + 1e-5)  # noqa: E731
    jax.tree.map(close, gradient2, gradient)


def test_no_token_depends_on_a_later_one(model, params):
    tokens = jnp.arange(6)[None] % 11
    apply = jax.jit(lambda params, tokens: model.apply(params, tokens, jnp.ones_like(tokens, bool)))
    before, _ = apply(params, tokens)
    after, _ = apply(params, tokens.at[0, 4].set(9))
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.abs(before[:, 4] - after[:, 4]).max() > 0.1


def test_order_matters(model, params):
    """Without positions, the last logits would be those of any order of the tokens before."""
    apply = jax.jit(lambda params, tokens: model.apply(params, tokens, jnp.ones_like(tokens, bool))[0][:, -1])
    logits = apply(params, jnp.array([[1, 2, 3, 4], [3, 2, 1, 4]]))
    assert np.abs(logits[0] - logits[1]).max() > 0.1


def test_bfloat16_is_near_and_returns_float32(model, params):
    rough = model.clone(dtype="bfloat16")
    tokens, mask = text.pad(TEXTS, side="right")
    small = jax.tree.map(lambda x: 0.3 * x, params)
    exact, _ = jax.jit(model.apply)(small, tokens, mask)
    logits, hidden = jax.jit(rough.apply)(small, tokens, mask)
    assert logits.dtype == hidden.dtype == jnp.float32
    error = np.abs(logits - exact)[mask]
    assert 0.0 < error.max() < 0.1 * np.abs(exact).max()


def test_sizes_of_the_presets():
    shapes = lambda model: jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), int), jnp.ones((1, 1), bool))  # noqa: E731
    count = lambda model: sum(leaf.size for leaf in jax.tree.leaves(shapes(model)))  # noqa: E731
    assert count(text.gpt2()) == 124_439_808
    smollm2 = dict(width=576, num_layers=30, num_heads=9, num_kv_heads=3, mlp_width=1536, max_length=8192, tied=True)
    assert count(text.llama(49_152, **smollm2)) == 134_515_008


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"width": 9}, "num_heads: got 2"),
        ({"num_kv_heads": 3, "num_heads": 4}, "num_kv_heads: got 3"),
        ({"num_layers": 0}, "num_layers: got 0"),
        ({"mlp_width": 0}, "mlp_width: got 0"),
        ({"norm": "batch"}, "norm: got 'batch'"),
        ({"dtype": "float16"}, "dtype: got 'float16'"),
        ({"epsilon": 0.0}, "epsilon: got 0.0"),
        ({"positions": "rotary", "width": 6}, "width: got 6"),
    ],
)
def test_fields_are_checked(fields, named):
    with pytest.raises(ValueError, match=named):
        text.Transformer(**{"vocab_size": 11, "width": 8, "num_layers": 1, "num_heads": 2, "max_length": 8, **fields})


@pytest.mark.parametrize(
    ("tokens", "mask", "named"),
    [
        (np.zeros((1, 17), int), np.ones((1, 17), bool), "max_length=16"),
        (np.zeros((1, 2)), np.ones((1, 2), bool), "tokens: got float"),
        (np.zeros((1, 2), int), np.ones((1, 2)), "mask: got float"),
        (np.zeros((1, 2), int), np.ones((1, 3), bool), r"mask: got bool\[1, 3\]"),
    ],
)
def test_inputs_are_checked(tokens, mask, named):
    model = MAKERS["gpt2"]()
    with pytest.raises((TypeError, ValueError), match=named):
        jax.eval_shape(model.init, jax.random.key(0), jnp.asarray(tokens), jnp.asarray(mask))
