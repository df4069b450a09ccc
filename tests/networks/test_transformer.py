"""The transformer torso against an encoder written out in NumPy on the same weights."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxrl import optim
from jaxrl.networks import GRUGate, Transformer
from jaxrl.networks.tokens import patches_of, sinusoidal, sinusoidal_grid

VECTOR = (3, 5)
ROWS = (3, 4, 6)
IMAGE = (3, 4, 6, 2)


@partial(jax.jit, static_argnums=0)
def initial(torso, key, x):
    return torso.init(key, x)


def init(torso, x, key=1):
    return initial(torso, jax.random.key(key), x)


@partial(jax.jit, static_argnums=0)
def run(torso, params, x, rngs=None):
    return torso.apply(params, x, rngs=rngs)


def to_numpy(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def numpy_norm(weights, x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-6) * weights["scale"] + weights["bias"]


def numpy_dense(weights, x):
    return x @ weights["kernel"] + weights.get("bias", 0.0)


def numpy_gate(weights, x, y):
    def sigmoid(v):
        return 1.0 / (1.0 + np.exp(-v))

    w_r, w_z, w_h = np.split(weights["input"]["kernel"], 3, axis=1)
    u_r, u_z = np.split(weights["state"]["kernel"], 2, axis=1)
    r = sigmoid(y @ w_r + x @ u_r)
    z = sigmoid(y @ w_z + x @ u_z - weights["bias"])
    h = np.tanh(y @ w_h + (r * x) @ weights["candidate"]["kernel"])
    return (1 - z) * x + z * h


def numpy_attention(weights, x, present, num_heads):
    """Token by token and head by head."""
    length, width = x.shape
    size = width // num_heads
    q, k_and_v = numpy_dense(weights["query"], x), numpy_dense(weights["key_value"], x)
    k, v = k_and_v[:, :width], k_and_v[:, width:]
    out = np.zeros_like(x)
    for head in range(num_heads):
        part = slice(head * size, (head + 1) * size)
        for t in range(length):
            scores = np.array([np.exp(q[t, part] @ k[s, part] / size**0.5) * present[s] for s in range(length)])
            out[t, part] = (scores / scores.sum()) @ v[:, part]
    return numpy_dense(weights["attention_output"], out)


def numpy_encoder(torso, weights, tokens, present):
    """The readout of all layers in full: ``tokens [T, W]``, ``present [T]`` of one observation."""
    x = np.concatenate([weights["readout"][0], tokens])
    present = np.concatenate([[True], present])
    for i in range(torso.num_layers):
        layer = weights[f"layer_{i}"]

        def join(x, y, name, layer=layer):
            return numpy_gate(layer[f"{name}_gate"], x, np.maximum(y, 0)) if torso.gated else x + y

        y = numpy_attention(layer, numpy_norm(layer["attention_norm"], x), present, torso.num_heads)
        x = join(x, y, "attention")
        y = numpy_dense(layer["mlp_hidden"], numpy_norm(layer["mlp_norm"], x))
        x = join(x, numpy_dense(layer["mlp_output"], np.maximum(y, 0)), "mlp")
    return numpy_norm(weights["norm"], x[0])


def numpy_tokens(torso, weights, observation):
    """The tokens of one observation without the readout, and which are present."""
    own = weights["tokens"]
    if observation.ndim == 1:
        tokens = observation[:, None] * own["weights"]
    elif observation.ndim == 2:
        rows = observation[::-1, :-1] if torso.window else observation[::-1]
        tokens = numpy_dense(own["embedding"], rows)
    else:
        p = torso.patch_size
        height, width = observation.shape[0] // p, observation.shape[1] // p
        squares = [
            observation[i * p : (i + 1) * p, j * p : (j + 1) * p].reshape(-1)
            for i in range(height)
            for j in range(width)
        ]
        tokens = numpy_dense(own["embedding"], np.array(squares))
    present = observation[::-1, -1] <= 0 if torso.window else np.ones(len(tokens), bool)
    return tokens + own["positions"], present


def window(num_absent, num_present, size=5, key=1):
    """``[3, num_absent + num_present, size + 1]``, as a window wrapper makes it."""
    steps = jax.random.normal(jax.random.key(key), (3, num_present, size))
    flagged = jnp.pad(steps, ((0, 0), (0, 0), (0, 1)))
    absent = jnp.zeros((3, num_absent, size + 1)).at[:, :, -1].set(1.0)
    return jnp.concatenate([absent, flagged], axis=1)


def perturbed(params, key=7):
    """Weights at which nothing is 0 or 1 by its initialisation."""
    flat, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(key), len(flat))
    drawn = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(flat, keys, strict=True)]
    return jax.tree.unflatten(tree, drawn)


CASES = {
    "vector": (Transformer(width=8), VECTOR),
    "layers": (Transformer(num_layers=3, width=12, num_heads=3, mlp_ratio=2), VECTOR),
    "gated": (Transformer(num_layers=2, width=8, gated=True), VECTOR),
    "rows": (Transformer(num_layers=2, width=8), ROWS),
    "window": (Transformer(num_layers=2, width=8, window=True), (2, 3)),
    "board": (Transformer(width=8, num_heads=1), IMAGE),
    "patches": (Transformer(width=8, patch_size=2), IMAGE),
}


@pytest.mark.parametrize("name", CASES)
def test_against_numpy(name):
    torso, shape = CASES[name]
    x = window(*shape) if torso.window else jax.random.normal(jax.random.key(0), shape)
    params = perturbed(init(torso, x))
    weights = to_numpy(params["params"])
    features = run(torso, params, x)
    assert features.dtype == jnp.float32
    expected = [numpy_encoder(torso, weights, *numpy_tokens(torso, weights, row)) for row in to_numpy(x)]
    np.testing.assert_allclose(features, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["gated", "window"])
def test_every_weight_has_a_gradient(name):
    torso, shape = CASES[name]
    x = window(*shape) if torso.window else jax.random.normal(jax.random.key(0), shape)
    params = perturbed(init(torso, x))
    slopes = jax.grad(lambda params: jnp.sin(3.0 * run(torso, params, x)).sum())(params)
    assert all(np.abs(leaf).max() > 1e-6 for leaf in jax.tree.leaves(slopes))


def test_fisher_products_go_through_the_attention():
    """Forward over reverse, against ``E J^T (diag(p) - p p^T) J`` with the Jacobian of the logits written out."""
    torso, x = Transformer(num_heads=1, width=3, mlp_ratio=1), jax.random.normal(jax.random.key(0), VECTOR)
    flat, unravel = ravel_pytree(perturbed(init(torso, x)))

    def logits(flat):
        return torso.apply(unravel(flat), x)

    def divergence(flat):
        old, new = (jax.nn.log_softmax(y) for y in (jax.lax.stop_gradient(logits(start)), logits(flat)))
        return (jnp.exp(old) * (old - new)).sum(-1).mean()

    start = flat
    vector = jax.random.normal(jax.random.key(5), flat.shape)
    product = jax.jit(lambda flat, v: optim.fisher_vector_product(divergence, flat)(v))(flat, vector)
    jacobian, p = np.asarray(jax.jit(jax.jacrev(logits))(flat), np.float64), jax.nn.softmax(logits(flat))
    expected = np.zeros(len(flat))
    for row, probabilities in zip(jacobian, np.asarray(p, np.float64), strict=True):
        covariance = np.diag(probabilities) - np.outer(probabilities, probabilities)
        expected += row.T @ covariance @ (row @ np.asarray(vector, np.float64)) / len(jacobian)
    assert np.abs(expected).max() > 0.05
    np.testing.assert_allclose(product, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


class TestPositions:
    def test_sinusoids(self):
        """Of the paper's formula, number by number; sines first, then cosines."""
        table = sinusoidal(jnp.arange(6), 8)
        for p in range(6):
            for i in range(4):
                angle = p / 10_000 ** (2 * i / 8)
                np.testing.assert_allclose(table[p, [i, 4 + i]], [np.sin(angle), np.cos(angle)], atol=1e-5)
        assert sinusoidal(jnp.arange(6), 7).shape == (6, 7)

    def test_grid(self):
        grid = sinusoidal_grid(2, 3, 9).reshape(2, 3, 9)
        np.testing.assert_array_equal(grid[:, 0, :5], sinusoidal(jnp.arange(2), 5))
        np.testing.assert_array_equal(grid[0, :, 5:], sinusoidal(jnp.arange(3), 4))
        assert (grid[:, 0, :5] == grid[:, 2, :5]).all() and (grid[0, :, 5:] == grid[1, :, 5:]).all()

    @pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
    @pytest.mark.parametrize("shape", [ROWS, IMAGE], ids=str)
    def test_order_is_seen_by_positions_alone(self, positions, shape):
        torso = Transformer(width=8, positions=positions, num_layers=2)
        x = jax.random.normal(jax.random.key(0), shape)
        params = init(torso, x)
        assert np.abs(run(torso, params, x) - run(torso, params, x[:, ::-1])).max() > 1e-2
        if positions == "learned":
            same = jax.tree.map(jnp.copy, params)
            same["params"]["tokens"]["positions"] = jnp.zeros_like(params["params"]["tokens"]["positions"])
            np.testing.assert_allclose(run(torso, same, x), run(torso, same, x[:, ::-1]), atol=1e-5)
        else:
            assert "positions" not in params["params"]["tokens"]

    def test_features_have_weights_of_their_own(self):
        torso = Transformer(width=8, positions="sinusoidal")
        params = init(torso, jnp.ones((1, 2)))
        swapped = run(torso, params, jnp.array([[1.0, 2.0], [2.0, 1.0]]))
        assert np.abs(swapped[0] - swapped[1]).max() > 1e-2


def test_patches_are_cut_as_numpy_cuts_them():
    images = jnp.arange(2 * 4 * 6 * 3, dtype=jnp.float32).reshape(2, 4, 6, 3)
    cut = patches_of(images, 2)
    assert cut.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(cut[1, 1, 2], np.asarray(images)[1, 2:4, 4:6].reshape(-1))


class TestWindows:
    TORSO = Transformer(num_layers=2, width=8, positions="sinusoidal", window=True)
    PARAMS = init(TORSO, window(0, 3), 0)

    @pytest.mark.parametrize("num_absent", [1, 4])
    def test_padding_changes_nothing(self, num_absent):
        expected = run(self.TORSO, self.PARAMS, window(0, 3))
        np.testing.assert_allclose(run(self.TORSO, self.PARAMS, window(num_absent, 3)), expected, rtol=1e-5, atol=1e-5)

    def test_learned_positions_are_counted_from_the_newest_step(self):
        torso = self.TORSO.clone(positions="learned")
        params = init(torso, window(2, 3), 0)
        shorter = jax.tree.map(jnp.copy, params)
        shorter["params"]["tokens"]["positions"] = params["params"]["tokens"]["positions"][:3]
        expected = run(torso, shorter, window(0, 3))
        np.testing.assert_allclose(run(torso, params, window(2, 3)), expected, rtol=1e-5, atol=1e-5)

    def test_what_an_absent_step_holds_is_not_seen(self):
        """Nor passes a gradient: after standardisation absent steps are no zeros, and their flag is no 1."""
        x = window(2, 3)
        other = x.at[:, :2, :-1].set(7.0).at[:, :2, -1].set(0.3).at[:, 2:, -1].set(-2.0)
        np.testing.assert_allclose(run(self.TORSO, self.PARAMS, other), run(self.TORSO, self.PARAMS, x), atol=1e-6)
        slope = jax.grad(lambda x: jnp.square(run(self.TORSO, self.PARAMS, x)[:, 0]).sum())(x)
        assert (slope[:, :2] == 0).all() and (np.abs(slope[:, 2:, :-1]) > 0).all()

    def test_present_steps_are_seen_by_all_others(self):
        x = window(1, 3)
        assert np.abs(run(self.TORSO, self.PARAMS, x) - run(self.TORSO, self.PARAMS, x.at[:, 1].add(1.0))).max() > 0.01

    def test_a_window_of_nothing_is_finite(self):
        x = window(3, 0)
        value, slope = jax.value_and_grad(lambda params: run(self.TORSO, params, x).sum())(self.PARAMS)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((value, slope)))

    def test_matrices_of_other_environments_are_rows_without_a_mask(self):
        torso = Transformer(width=8)
        x = jnp.ones((2, 3, 4))
        params = init(torso, x, 0)
        assert params["params"]["tokens"]["embedding"]["kernel"].shape == (4, 8)
        assert np.abs(run(torso, params, x) - run(torso, params, x.at[:, 0].set(0.0))).max() > 1e-2

    @pytest.mark.parametrize("shape", [(2, 4), (2, 4, 1), (2, 4, 4, 1)], ids=str)
    def test_what_is_no_window_is_refused(self, shape):
        with pytest.raises(ValueError, match=r"window: got observations \[4.*must be \[k, D \+ 1\]"):
            self.TORSO.init(jax.random.key(0), jnp.ones(shape))


class TestGate:
    def test_starts_near_the_identity(self):
        x, y = jax.random.normal(jax.random.key(0), (2, 64, 16))
        far = {}
        for bias in (0.0, 2.0, 20.0):
            gate = GRUGate(bias)
            far[bias] = float(jnp.abs(gate.apply(gate.init(jax.random.key(1), x, y), x, y) - x).mean())
        assert far[20.0] < 1e-6 < far[2.0] < 0.6 * far[0.0]

    def test_layers_start_near_the_identity(self):
        x = jax.random.normal(jax.random.key(0), VECTOR)
        torso = Transformer(width=8, num_layers=2, gated=True, gate_bias=30.0)
        params = init(torso, x)
        readout = to_numpy(params["params"]["readout"])[0, 0]
        expected = np.broadcast_to(numpy_norm({"scale": 1.0, "bias": 0.0}, readout), (3, 8))
        np.testing.assert_allclose(run(torso, params, x), expected, atol=1e-4)


class TestPrecision:
    def test_bfloat16_keeps_float32_parameters(self):
        x = jax.random.normal(jax.random.key(0), (64, 5))
        single, half = (Transformer(num_layers=2, width=16, gated=True, dtype=d) for d in ("float32", "bfloat16"))
        params = init(half, x)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
        features = run(half, params, x)
        assert features.dtype == jnp.float32
        error = np.abs(features - run(single, params, x))
        assert 1e-4 < error.max() < 0.1, "products are rounded, and only rounded"
        slopes = jax.grad(lambda params: jnp.square(run(half, params, x)[:, 0]).sum())(params)
        assert {leaf.dtype for leaf in jax.tree.leaves(slopes)} == {jnp.dtype("float32")}

    def test_every_product_of_a_layer_is_bfloat16(self):
        torso = Transformer(width=16, gated=True, dtype="bfloat16")
        x = jnp.ones((2, 5))
        params = init(torso, x)
        _, seen = torso.apply(params, x, capture_intermediates=lambda module, _: isinstance(module, nn.Dense))
        outputs = jax.tree.leaves(seen["intermediates"]["layer_0"])
        assert len(outputs) == 11 and {leaf.dtype for leaf in outputs} == {jnp.dtype("bfloat16")}


class TestDropout:
    X = jax.random.normal(jax.random.key(0), VECTOR)

    def test_off_by_default(self):
        torso = Transformer(width=8)
        params = init(torso, self.X)
        np.testing.assert_array_equal(
            run(torso, params, self.X), run(torso, params, self.X, rngs={"dropout": jax.random.key(2)})
        )

    def test_drawn_where_there_is_an_rng(self):
        plain, torso = Transformer(width=8, num_layers=2), Transformer(width=8, num_layers=2, dropout=0.5)
        params = init(torso, self.X)
        np.testing.assert_array_equal(run(torso, params, self.X), run(plain, params, self.X))
        one, same, other = (run(torso, params, self.X, rngs={"dropout": jax.random.key(k)}) for k in (2, 2, 3))
        np.testing.assert_array_equal(one, same)
        assert (one != other).any() and (one != run(plain, params, self.X)).any()

    def test_a_tracer_is_refused_by_name(self):
        with pytest.raises(TypeError, match="dropout: got a tracer"):
            jax.vmap(lambda rate: Transformer(dropout=rate).dropout)(jnp.array([0.1, 0.2]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, "num_heads: got 3, must divide width=32"),
        ({"num_layers": 0}, "num_layers: got 0, must be at least 1"),
        ({"positions": "rotary"}, "positions: got 'rotary', allowed are learned, sinusoidal"),
        ({"dtype": "float16"}, "dtype: got 'float16', allowed are float32, bfloat16"),
        ({"dropout": 1.0}, r"dropout: got 1.0, must be in \[0, 1\)"),
        ({"activation": "gleu"}, "activation: got 'gleu'"),
    ],
)
def test_what_can_not_be_is_refused_when_it_is_made(options, message):
    with pytest.raises(ValueError, match=message):
        Transformer(**options)


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({"patch_size": 4}, IMAGE, "patch_size: got 4, must divide both sides of the image, 4 x 6"),
        ({}, (2, 2, 2, 2, 2), r"torso: Transformer makes tokens of .* got observations \[2, 2, 2, 2\]"),
        ({}, (2,), r"torso: Transformer makes tokens of .* got observations \[\]"),
    ],
)
def test_observations_that_do_not_fit_are_refused(options, shape, message):
    with pytest.raises(ValueError, match=message):
        Transformer(**options).init(jax.random.key(0), jnp.ones(shape))
