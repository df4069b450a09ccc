"""Heads of action values: against plain NumPy on the same weights."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import MLP, ActionValueHead, Conv, ImplicitQuantileHead, QNetwork
from jaxrl.types import Observation

N, D, A, K, M, HIDDEN = 5, 6, 3, 4, 7, 8
X = jax.random.normal(jax.random.key(7), (N, D))


def made(module, *args):
    """Parameters moved off their initial values, so that biases count."""
    params = jax.jit(module.init)(jax.random.key(0), *args)
    return jax.tree.map(lambda x: x + 0.1 * np.random.default_rng(x.size).normal(size=x.shape).astype("f4"), params)


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def numpy_stream(weights, x):
    """A stream in NumPy: kernels of noisy layers and of hidden ones are [in, out], of other outputs [out, in]."""
    weights = jax.tree.map(np.asarray, weights)
    if "hidden" in weights:
        x = np.maximum(x @ weights["hidden"]["kernel"] + weights["hidden"]["bias"], 0)
    output = weights["output"]
    kernel = output["kernel"] if "kernel_scale" in output else output["kernel"].T
    return x @ kernel + output["bias"]


def numpy_values(weights, x, num_actions, num_outputs):
    if "value" not in weights:
        return numpy_stream(weights["action_value"], x).reshape(len(x), num_actions, num_outputs)
    value, advantage = numpy_stream(weights["value"], x), numpy_stream(weights["advantage"], x)
    values = np.zeros((len(x), num_actions, num_outputs))
    for n in range(len(x)):
        table = advantage[n].reshape(num_actions, num_outputs)
        for a in range(num_actions):
            for k in range(num_outputs):
                values[n, a, k] = value[n, k] + table[a, k] - sum(table[:, k]) / num_actions
    return values


class TestActionValueHead:
    @pytest.mark.parametrize("num_outputs", [None, K])
    @pytest.mark.parametrize("dueling", [False, True])
    @pytest.mark.parametrize("hidden", [None, HIDDEN])
    @pytest.mark.parametrize("noisy", [False, True])
    def test_against_numpy(self, num_outputs, dueling, hidden, noisy):
        head = ActionValueHead(A, num_outputs, dueling=dueling, noisy=noisy, hidden=hidden)
        params = made(head, X)
        k = num_outputs or 1
        expected = numpy_values(params["params"], np.asarray(X), A, k)
        found = head.apply(params, X)
        assert found.shape == ((N, A) if num_outputs is None else (N, A, K)) and found.dtype == jnp.float32
        np.testing.assert_allclose(found.reshape(N, A, k), expected, rtol=1e-4, atol=1e-5)

        layers = lambda size: (D * size + size) if hidden is None else (D + 1) * HIDDEN + (HIDDEN + 1) * size  # noqa: E731
        weights = layers(A * k) + (layers(k) if dueling else 0)
        assert count(params) == (2 if noisy else 1) * weights

    def test_mean_over_actions_is_the_value(self):
        """What makes value and advantage identifiable: a constant added to all advantages changes nothing."""
        head = ActionValueHead(A, K, dueling=True)
        params = made(head, X)
        value = numpy_stream(params["params"]["value"], np.asarray(X))
        np.testing.assert_allclose(head.apply(params, X).mean(axis=1), value, rtol=1e-4, atol=1e-5)
        shifted = jax.tree.map(lambda x: x, params)
        shifted["params"]["advantage"]["output"]["bias"] += 3.0
        np.testing.assert_allclose(head.apply(shifted, X), head.apply(params, X), atol=1e-5)

    def test_every_layer_of_a_noisy_head_is_noisy(self):
        head = ActionValueHead(A, dueling=True, noisy=True, hidden=HIDDEN)
        params = head.init(jax.random.key(0), X)
        apply = jax.jit(lambda params, key: head.apply(params, X, rngs={"noise": key}))
        noisy = apply(params, jax.random.key(1))
        assert np.abs(noisy - apply(params, jax.random.key(2))).min() > 1e-4
        slopes = jax.jit(jax.grad(lambda params: jnp.square(apply(params, jax.random.key(1))).sum()))(params)["params"]
        for stream in ("value", "advantage"):
            for layer in ("hidden", "output"):
                assert set(slopes[stream][layer]) == {"kernel", "bias", "kernel_scale", "bias_scale"}
                assert all(leaf.any() for leaf in slopes[stream][layer].values())

    def test_scale_sigma_and_activation_are_read(self):
        small = ActionValueHead(A, scale=0.01)
        assert np.abs(small.apply(small.init(jax.random.key(0), X), X)).max() < 0.1
        quiet = ActionValueHead(A, noisy=True, sigma=0.0)
        params = quiet.init(jax.random.key(0), X)
        noisy = quiet.apply(params, X, rngs={"noise": jax.random.key(1)})
        np.testing.assert_allclose(noisy, quiet.apply(params, X), rtol=1e-6)
        bent = ActionValueHead(A, hidden=HIDDEN)
        params = bent.init(jax.random.key(0), X)
        assert np.abs(bent.apply(params, X) - bent.clone(activation="tanh").apply(params, X)).max() > 1e-3


class TestImplicitQuantiles:
    HEAD = ImplicitQuantileHead(ActionValueHead(A), num_cosines=10)
    TAU = jax.random.uniform(jax.random.key(3), (N, M))

    @pytest.mark.parametrize("dueling", [False, True])
    def test_against_numpy(self, dueling):
        head = ImplicitQuantileHead(ActionValueHead(A, dueling=dueling, hidden=HIDDEN), num_cosines=10)
        params = made(head, X, self.TAU)
        weights = jax.tree.map(np.asarray, params["params"])
        expected = np.zeros((N, A, M))
        for n in range(N):
            for m in range(M):
                cosines = np.array([np.cos(np.pi * i * float(self.TAU[n, m])) for i in range(10)])
                phi = np.maximum(cosines @ weights["embedding"]["kernel"] + weights["embedding"]["bias"], 0)
                expected[n, :, m] = numpy_values(weights["values"], (np.asarray(X[n]) * phi)[None], A, 1)[0, :, 0]
        found = jax.jit(head.apply)(params, X, self.TAU)
        assert found.shape == (N, A, M) and found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)

    def test_same_fractions_for_all(self):
        params = made(self.HEAD, X, self.TAU)
        shared = self.HEAD.apply(params, X, self.TAU[0])
        expected = self.HEAD.apply(params, X, jnp.broadcast_to(self.TAU[:1], (N, M)))
        np.testing.assert_allclose(shared, expected, rtol=1e-5, atol=1e-6)
        assert np.abs(shared[1:] - self.HEAD.apply(params, X, self.TAU)[1:]).max() > 1e-3

    def test_parameter_count(self):
        assert count(self.HEAD.init(jax.random.key(0), X, self.TAU)) == (10 + 1) * D + (D + 1) * A

    def test_refusals(self):
        for shape in ((N + 1, M), (), (1, N, M)):
            with pytest.raises(ValueError, match=r"tau: got shape .*, must be \[5, 'M'\] or \['M'\]"):
                self.HEAD.init(jax.random.key(0), X, jnp.ones(shape))
        with pytest.raises(ValueError, match="leave num_outputs None"):
            ImplicitQuantileHead(ActionValueHead(A, K)).init(jax.random.key(0), X, self.TAU)


class TestQNetwork:
    NETWORK = QNetwork(MLP((16,), "relu", layer_norm=True), ActionValueHead(A, K, dueling=True), 1)

    def test_seeds_under_jit_and_vmap(self):
        """Two seeds differ, each equals its own run alone, everything is float32, and all weights get a gradient."""

        def run(key):
            params = self.NETWORK.init(key, X)
            loss = lambda params: jnp.square(self.NETWORK.apply(params, X) - 1.0).sum()  # noqa: E731
            return params, jax.grad(loss)(params)

        keys = jax.random.split(jax.random.key(0), 2)
        params, slopes = jax.jit(jax.vmap(run))(keys)
        for leaf in jax.tree.leaves(slopes):
            assert leaf.dtype == jnp.float32 and leaf[0].any() and leaf[1].any()
        kernel = params["params"]["q_torso"]["Dense_0"]["kernel"]
        assert np.abs(kernel[0] - kernel[1]).max() > 0.1
        alone = jax.jit(run)(keys[1])
        together = jax.tree.map(lambda x: x[1], (params, slopes))
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), together, alone)

    def test_features_are_reusable(self):
        network = QNetwork(MLP((16,)), ImplicitQuantileHead(ActionValueHead(A)), 1)
        tau = jnp.linspace(0.1, 0.9, M)
        params = made(network, X, tau)
        features = network.apply(params, X, method="embed")
        assert features.shape == (N, 16)
        torso = {"params": params["params"]["q_torso"]}
        np.testing.assert_allclose(features, MLP((16,)).apply(torso, X), rtol=1e-6)
        values = network.apply(params, features, tau, method="from_features")
        np.testing.assert_allclose(values, network.apply(params, X, tau), rtol=1e-5, atol=1e-6)

    def test_observations_with_goals_masks_and_more_batch_axes(self):
        network = QNetwork(MLP((8,)), ActionValueHead(A), 1)
        goal, mask = jnp.ones((N, 2)), jnp.ones((N, A), bool)
        params = made(network, Observation(X, mask, goal))
        values = network.apply(params, Observation(X, mask, goal))
        beside = network.apply(params, jnp.concatenate([X, goal], -1))
        np.testing.assert_allclose(values, beside, rtol=1e-6)
        assert np.abs(values - network.apply(params, Observation(X, mask, 0 * goal))).max() > 1e-3
        stacked = Observation(X[None], mask[None], goal[None])
        np.testing.assert_array_equal(network.apply(params, stacked), values[None])

    def test_pixels(self):
        network = QNetwork(Conv((4,), (8,)), ActionValueHead(A), 3)
        pixels = jax.random.randint(jax.random.key(0), (N, 5, 5, 2), 0, 256).astype(jnp.uint8)
        params = made(network, pixels)
        scaled = network.apply(params, pixels.astype(jnp.float32) / 255.0)
        np.testing.assert_allclose(network.apply(params, pixels), scaled, rtol=1e-5)

    def test_a_torso_that_gives_no_features_is_refused(self):
        class Bad(MLP):
            def __call__(self, x):
                return x[:-1]

        with pytest.raises(ValueError, match=r"torso: got \[4, 6\] from Bad, .*N = 5"):
            QNetwork(Bad(), ActionValueHead(A), 1).init(jax.random.key(0), X)

        class Pair(MLP):
            def __call__(self, x):
                return x, x

        with pytest.raises(ValueError, match=r"torso: got a tuple from Pair, .*N = 5"):
            QNetwork(Pair(), ActionValueHead(A), 1).init(jax.random.key(0), X)

    def test_two_networks_of_one_torso_share_nothing(self):
        torso = MLP((8,))
        first, second = (QNetwork(torso, ActionValueHead(A), 1) for _ in range(2))
        one, other = first.init(jax.random.key(0), X), second.init(jax.random.key(1), X)
        assert np.abs(first.apply(one, X) - second.apply(other, X)).max() > 1e-3
