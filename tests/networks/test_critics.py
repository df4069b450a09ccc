"""Policies and critics of continuous actions, and ensembles: against plain NumPy and against members alone."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.networks import (
    MLP,
    ActionValueHead,
    ContinuousCritic,
    Conv,
    DeterministicPolicy,
    Ensemble,
    QNetwork,
    SquashedGaussian,
    SquashedGaussianPolicy,
    critic_ensemble,
)
from jaxrl.types import Box, Discrete, Observation

N, D, G, A = 5, 4, 2, 3
X = jax.random.normal(jax.random.key(7), (N, D))
ACTION = jax.random.uniform(jax.random.key(8), (N, A), minval=-1.0)
IMAGES = jax.random.uniform(jax.random.key(9), (N, 4, 4, 2))
TORSO = MLP((8,), "relu")


def made(module, *args):
    """Parameters moved off their initial values, so that biases count."""
    params = jax.jit(module.init)(jax.random.key(0), *args)
    return jax.tree.map(lambda x: x + 0.1 * np.random.default_rng(x.size).normal(size=x.shape).astype("f4"), params)


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def numpy_mlp(weights, x):
    return np.maximum(x @ weights["Dense_0"]["kernel"] + weights["Dense_0"]["bias"], 0)


def numpy_narrow(weights, x):
    (layer,) = [weights] if "kernel" in weights else weights.values()
    return x @ layer["kernel"].T + layer["bias"]


class TestDeterministicPolicy:
    POLICY = DeterministicPolicy(TORSO, A, 1)

    def test_against_numpy(self):
        params = made(self.POLICY, X)
        weights = jax.tree.map(np.asarray, params["params"])
        features = numpy_mlp(weights["actor_torso"], np.asarray(X))
        expected = np.tanh(numpy_narrow(weights["action_head"], features))
        np.testing.assert_allclose(self.POLICY.apply(params, X), expected, rtol=1e-4, atol=1e-5)
        assert count(params) == (D + 1) * 8 + (8 + 1) * A

    def test_starts_near_the_middle_and_stays_within_the_bounds(self):
        params = self.POLICY.init(jax.random.key(0), X)
        start = self.POLICY.apply(params, X)
        assert start.shape == (N, A) and 0 < np.abs(start).max() < 0.1
        far = self.POLICY.apply(jax.tree.map(lambda x: x + 3.0, params), 100.0 * jnp.abs(X))
        assert np.abs(far).max() <= 1.0 and np.abs(far).min() > 0.99


class TestSquashedGaussianPolicy:
    def policy_at(self, offset, **options):
        """The policy with the log standard deviation moved by ``offset``."""
        module = SquashedGaussianPolicy(TORSO, A, 1, **options)
        params = module.init(jax.random.key(0), X)
        params["params"]["policy_head"]["log_std"]["bias"] += offset
        return module.apply(params, X)

    def test_distribution(self):
        policy = self.policy_at(0.0)
        assert isinstance(policy, SquashedGaussian)
        assert policy.batch_shape == (N,) and policy.event_shape == (A,)
        np.testing.assert_allclose(policy.loc, 0.0, atol=0.1)
        np.testing.assert_allclose(policy.scale_diag, 1.0, atol=0.1)
        assert np.ptp(policy.scale_diag) > 1e-4  # it depends on the state
        raw, log_prob = policy.sample_and_log_prob(seed=jax.random.key(0))
        assert raw.shape == (N, A) and raw.dtype == jnp.float32 and np.isfinite(log_prob).all()

    @pytest.mark.parametrize(("offset", "bound"), [(-50.0, -5.0), (50.0, 2.0), (-1.0, None)])
    def test_log_std_is_clipped_to_the_range(self, offset, bound):
        log_std = np.log(self.policy_at(offset).scale_diag)
        np.testing.assert_allclose(log_std, offset if bound is None else bound, rtol=1e-5, atol=0.1 * (bound is None))

    def test_the_range_may_be_traced(self):
        lowest = jax.vmap(lambda low: self.policy_at(-50.0, log_std_range=(low, 2.0)).scale_diag[0, 0])
        np.testing.assert_allclose(np.log(lowest(jnp.array([-20.0, -3.0]))), [-20.0, -3.0], rtol=1e-5)

    def test_gradients_reach_every_weight(self):
        module = SquashedGaussianPolicy(TORSO, A, 1)

        def loss(params):
            raw, log_prob = module.apply(params, X).sample_and_log_prob(seed=jax.random.key(0))
            return (log_prob + jnp.square(jnp.tanh(raw) - 0.3).sum(-1)).mean()

        slopes = jax.jit(jax.grad(loss))(module.init(jax.random.key(0), X))
        assert all(leaf.any() and np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


class TestContinuousCritic:
    def test_vectors_against_numpy(self):
        critic = ContinuousCritic(TORSO, 1)
        goal = jnp.ones((N, G))
        params = made(critic, Observation(X, goal=goal), ACTION)
        weights = jax.tree.map(np.asarray, params["params"])
        features = numpy_mlp(weights["critic_torso"], np.concatenate([X, goal, ACTION], -1))
        expected = numpy_narrow(weights["value_head"], features)[:, 0]
        found = critic.apply(params, Observation(X, goal=goal), ACTION)
        assert found.shape == (N,) and found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert count(params) == (D + G + A + 1) * 8 + 8 + 1

    def test_images_against_numpy(self):
        torso = Conv((4,), (8,))
        critic = ContinuousCritic(torso, 3, hidden=6)
        params = made(critic, IMAGES, ACTION)
        weights = jax.tree.map(np.asarray, params["params"])
        features = np.asarray(torso.apply({"params": weights["critic_torso"]}, IMAGES))
        joined = np.concatenate([features, ACTION], -1) @ weights["joined"]["kernel"] + weights["joined"]["bias"]
        expected = numpy_narrow(weights["value_head"], np.maximum(joined, 0))[:, 0]
        np.testing.assert_allclose(critic.apply(params, IMAGES, ACTION), expected, rtol=1e-4, atol=1e-5)
        bent = critic.clone(activation="tanh").apply(params, IMAGES, ACTION)
        assert np.abs(bent - critic.apply(params, IMAGES, ACTION)).max() > 1e-3

    def test_bare_numbers_and_matrices_as_actions(self):
        """An observation of one number, an action of one number or of a matrix: flattened in order."""
        critic = ContinuousCritic(TORSO, 0)
        matrix = jax.random.normal(jax.random.key(0), (N, 2, 3))
        params = made(critic, X[:, 0], matrix)
        flat = critic.apply(params, X[:, 0], matrix.reshape(N, 6))
        np.testing.assert_array_equal(critic.apply(params, X[:, 0], matrix), flat)
        assert critic.apply(made(critic, X[:, 0], ACTION[:, 0]), X[:, 0], ACTION[:, 0]).shape == (N,)

    @pytest.mark.parametrize(
        ("observation", "torso"), [(X, TORSO), (IMAGES, Conv((4,), (8,)))], ids=["vector", "image"]
    )
    def test_gradients_reach_the_action_and_every_weight(self, observation, torso):
        critic = ContinuousCritic(torso, observation.ndim - 1, hidden=8)
        params = critic.init(jax.random.key(0), observation, ACTION)
        loss = lambda params, action: jnp.square(critic.apply(params, observation, action) - 1.0).sum()  # noqa: E731
        by_params, by_action = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, ACTION)
        assert all(leaf.any() for leaf in jax.tree.leaves(by_params))
        assert (np.abs(by_action).max(-1) > 0).all()


ENSEMBLES = {
    "continuous": (critic_ensemble(Box((A,), -1.0, 1.0), TORSO, 1), (X, ACTION), (2, N)),
    "images": (critic_ensemble(Box((A,), -1.0, 1.0), Conv((4,), (8,)), 3), (IMAGES, ACTION), (2, N)),
    "discrete": (critic_ensemble(Discrete(A), TORSO, 1, size=3), (X,), (3, N, A)),
}


@pytest.mark.parametrize("kind", ENSEMBLES)
class TestEnsemble:
    def test_equals_its_members_alone(self, kind):
        ensemble, args, shape = ENSEMBLES[kind]
        params = made(ensemble, *args)
        found = jax.jit(ensemble.apply)(params, *args)
        assert found.shape == shape and found.dtype == jnp.float32
        for i in range(ensemble.size):
            alone = {"params": jax.tree.map(lambda x, i=i: x[i], params["params"]["members"])}
            np.testing.assert_allclose(found[i], ensemble.member.apply(alone, *args), rtol=1e-4, atol=1e-5)
        assert count(params) == ensemble.size * count(ensemble.member.init(jax.random.key(0), *args))

    def test_seeds_and_members_differ_and_keep_apart(self, kind):
        """Under vmap over seeds: no two kernels alike, each orthogonal, and a member's loss moves that member alone."""
        ensemble, args, _ = ENSEMBLES[kind]

        def run(key):
            params = ensemble.init(key, *args)
            slopes = jax.grad(lambda params: jnp.square(ensemble.apply(params, *args)[1] - 1.0).sum())(params)
            return params, slopes

        params, slopes = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 2))
        for leaf in jax.tree.leaves(slopes):
            assert leaf.dtype == jnp.float32
            assert leaf[:, 1].any() and not leaf[:, 0].any() and not leaf[:, 2:].any()
        named = jax.tree_util.tree_leaves_with_path(params)
        for path, leaf in [(path, leaf) for path, leaf in named if "kernel" in str(path[-1])]:
            kernels = np.asarray(leaf).reshape(-1, *leaf.shape[2:])
            for i, kernel in enumerate(kernels):
                gram = kernel @ kernel.T if kernel.shape[0] < kernel.shape[1] else kernel.T @ kernel
                np.testing.assert_allclose(gram, gram[0, 0] * np.eye(len(gram)), atol=1e-5, err_msg=str(path))
                assert all(np.abs(kernel - other).max() > 1e-2 for other in kernels[:i])

    def test_no_factorisation_inside(self, kind):
        """Two batched QR factorisations in one program can deadlock: see the initialiser."""
        ensemble, args, _ = ENSEMBLES[kind]
        seeds = jax.vmap(lambda key: ensemble.init(key, *args))
        program = str(jax.make_jaxpr(seeds)(jax.random.split(jax.random.key(0), 2)))
        assert not re.search(r"\b(qr|householder\w*|geqrf|svd|cholesky|\w*custom_call)\b", program)


def test_members_of_an_ensemble_draw_their_own_noise():
    ensemble = Ensemble(QNetwork(TORSO, ActionValueHead(A, noisy=True), 1))
    params = ensemble.init(jax.random.key(0), X)
    alike = jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), params)
    quiet = ensemble.apply(alike, X)
    np.testing.assert_array_equal(quiet[0], quiet[1])
    noisy = ensemble.apply(alike, X, rngs={"noise": jax.random.key(1)})
    assert np.abs(noisy[0] - noisy[1]).min() > 1e-4


def test_ensembles_take_observations_with_parts():
    ensemble, (x, action), _ = ENSEMBLES["continuous"]
    goal = jnp.full((N, G), 0.5)
    params = made(ensemble, Observation(x, goal=goal), action)
    beside = ensemble.apply(params, jnp.concatenate([x, goal], -1), action)
    np.testing.assert_allclose(ensemble.apply(params, Observation(x, goal=goal), action), beside, rtol=1e-6)
