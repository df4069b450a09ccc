"""The variational autoencoder against exact solutions."""

from functools import partial

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from jaxrl import models
from jaxrl.networks import MLP
from jaxrl.types import Discrete, Observation, Spec

VECTOR = Spec(jax.ShapeDtypeStruct((4,), jnp.float32), Discrete(2))
IMAGE = Spec(jax.ShapeDtypeStruct((16, 16, 3), jnp.uint8), Discrete(2))


def vae(spec, **options):
    """Of functions that are compiled, rather than each of their operations."""
    made = models.vae(spec, **options)
    functions = {name: jax.jit(getattr(made, name)) for name in ("init", "encode", "decode", "loss")}
    return made._replace(**functions)


def test_the_elbo_at_the_exact_posterior_of_a_linear_decoder_is_the_log_evidence():
    """``x = W z + b + s e``: with orthogonal columns of W the posterior is diagonal, the evidence a Gaussian."""
    s, rng = 0.5, np.random.default_rng(0)
    weights = np.linalg.qr(rng.normal(size=(4, 2)))[0] * np.array([1.5, 0.7])
    bias = rng.normal(size=4)
    linear = vae(
        VECTOR, latent_size=2, likelihood=models.normal(s), encoder=MLP(()), decoder=models.MLPDecoder((4,), ())
    )
    precision = 1.0 + (weights**2).sum(0) / s**2
    to_mean = weights / s**2 / precision
    params = linear.init(jax.random.key(0))
    leaves = {
        "own_decoder": {"Dense_0": {"kernel": weights.T, "bias": bias}},
        "posterior": {
            "kernel": np.concatenate([to_mean, np.zeros((4, 2))], axis=1),
            "bias": np.concatenate([-bias @ to_mean, -0.5 * np.log(precision)]),
        },
    }
    leaves = {"params": jax.tree.map(jnp.float32, leaves)}
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, leaves)
    x = rng.normal(size=(3, 4)) * 2.0
    evidence = scipy.stats.multivariate_normal(bias, weights @ weights.T + s**2 * np.eye(4)).logpdf(x)
    keys = jax.random.split(jax.random.key(1), 20_000)
    terms = jax.jit(jax.vmap(lambda key: linear.terms(leaves, key, jnp.float32(x))))(keys)
    np.testing.assert_allclose((terms.log_likelihood - terms.kl).mean(0), evidence, atol=0.03)
    # Any other posterior is worse.
    worse = jax.tree.map(lambda leaf: leaf, leaves)
    worse["params"]["posterior"]["bias"] = worse["params"]["posterior"]["bias"] + jnp.array([0.5, 0.0, 0.3, 0.0])
    terms = jax.jit(jax.vmap(lambda key: linear.terms(worse, key, jnp.float32(x))))(keys)
    assert ((terms.log_likelihood - terms.kl).mean(0) < evidence - 0.2).all()


def test_the_kl_is_distraxs():
    mean, log_std = jax.random.normal(jax.random.key(0), (2, 5, 3))
    prior = distrax.MultivariateNormalDiag(jnp.zeros((5, 3)), jnp.ones((5, 3)))
    expected = distrax.MultivariateNormalDiag(mean, jnp.exp(log_std)).kl_divergence(prior)
    np.testing.assert_allclose(models.Latent(mean, log_std).kl(), expected, rtol=1e-5)


def test_likelihoods_are_scipys():
    outputs, x = jnp.array([0.3, -2.0, 4.0]), jnp.array([0.0, 1.0, 1.0])
    p = 1.0 / (1.0 + np.exp(-np.asarray(outputs)))
    np.testing.assert_allclose(models.BERNOULLI.log_prob(outputs, x), scipy.stats.bernoulli.logpmf(x, p), rtol=1e-5)
    np.testing.assert_allclose(models.BERNOULLI.mean(outputs), p, rtol=1e-5)
    np.testing.assert_allclose(models.SUM_OF_SQUARES.log_prob(outputs, x), -((x - p) ** 2), rtol=1e-5)
    expected = scipy.stats.norm.logpdf(x, outputs, 0.3)
    np.testing.assert_allclose(models.normal(0.3).log_prob(outputs, x), expected, rtol=1e-5)


def test_the_loss_is_a_sum_over_pixels_and_latents():
    autoencoder = vae(IMAGE, latent_size=3, kl_weight=2.0)
    params = autoencoder.init(jax.random.key(0))
    images = jax.random.randint(jax.random.key(1), (5, 16, 16, 3), 0, 256).astype(jnp.uint8)
    key = jax.random.key(2)
    posterior = autoencoder.encode(params, images)
    mean = np.asarray(autoencoder.decode(params, posterior.sample(key)), np.float64)
    x = np.asarray(images) / 255.0
    log_likelihood = (x * np.log(mean) + (1 - x) * np.log(1 - mean)).sum((1, 2, 3))
    np.testing.assert_allclose(autoencoder.loss(params, key, images), 2.0 * posterior.kl() - log_likelihood, rtol=1e-4)
    assert log_likelihood.mean() < -400.0


@pytest.mark.parametrize(("free_nats", "moves"), [(0.0, True), (100.0, False)])
def test_no_gradient_of_the_kl_below_the_free_nats(free_nats, moves):
    # A decoder that ignores z leaves the KL alone to move the encoder.
    autoencoder = vae(VECTOR, latent_size=2, free_nats=free_nats, likelihood=models.normal(1.0))
    params = autoencoder.init(jax.random.key(0))
    params["params"]["own_decoder"] = jax.tree.map(jnp.zeros_like, params["params"]["own_decoder"])
    x = jax.random.normal(jax.random.key(1), (8, 4))
    gradient = jax.jit(jax.grad(lambda params: autoencoder.loss(params, jax.random.key(2), x).mean()))(params)["params"]
    assert (sum(float(abs(leaf).sum()) for leaf in jax.tree.leaves(gradient["posterior"])) > 0.0) == moves


@partial(jax.jit, static_argnums=0)
def squares(size):
    """Images with one bright square at one of nine places."""
    place = jax.random.randint(jax.random.key(3), (size, 2), 0, 3) * 5 + 1
    rows = (jnp.arange(16)[None] >= place[:, :1]) & (jnp.arange(16)[None] < place[:, :1] + 4)
    columns = (jnp.arange(16)[None] >= place[:, 1:]) & (jnp.arange(16)[None] < place[:, 1:] + 4)
    return (rows[:, :, None] & columns[:, None, :])[..., None].astype(jnp.uint8) * 255


def test_it_learns_images_and_a_permuted_batch_gives_permuted_outputs():
    images = squares(200)
    spec = Spec(jax.ShapeDtypeStruct((16, 16, 1), jnp.uint8), Discrete(2))
    encoder, decoder = models.ConvEncoder((4, 8)), models.ConvDecoder((16, 16, 1), (4, 8))
    autoencoder = vae(spec, latent_size=4, encoder=encoder, decoder=decoder)
    params = autoencoder.init(jax.random.key(0))
    fitted = jax.jit(
        lambda key: models.fit(
            key, params, images, autoencoder.loss, optimizer=optax.adam(5e-3), batch_size=32, max_epochs=60
        )
    )(jax.random.key(1))
    # log(9) nats are needed to say where the square is; the image has 256 pixels.
    assert float(fitted.best) < 25.0 < 100.0 < float(fitted.held_out[0])
    rebuilt = autoencoder.decode(fitted.params, autoencoder.encode(fitted.params, images).mean)
    assert float(((rebuilt > 0.5) == (images > 0)).mean()) > 0.99
    order = jax.random.permutation(jax.random.key(2), len(images))
    permuted = autoencoder.encode(fitted.params, images[order])
    np.testing.assert_allclose(permuted.mean, autoencoder.encode(fitted.params, images).mean[order], atol=1e-4)


def test_x64_keeps_float32_and_observations_may_have_parts():
    with jax.enable_x64(True):
        for spec, x in ((VECTOR, jnp.ones((2, 4), jnp.float64)), (IMAGE, jnp.ones((2, 16, 16, 3), jnp.uint8))):
            autoencoder = vae(spec, latent_size=2, likelihood=models.normal(0.5))

            def run(key, x, autoencoder=autoencoder):
                params = autoencoder.init(key)
                z = autoencoder.encode(params, Observation(features=x))
                return params, z, autoencoder.decode(params, z.sample(key)), autoencoder.loss(params, key, x)

            leaves = jax.tree.leaves(jax.eval_shape(run, jax.random.key(0), x))
            assert all(leaf.dtype == jnp.float32 for leaf in leaves)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("latent_size", {"latent_size": 0}),
        ("kl_weight", {"kl_weight": -1.0}),
        ("free_nats", {"free_nats": float("nan")}),
        ("likelihood", {"likelihood": "bernoulli"}),
        ("encoder", {"encoder": "mlp"}),
    ],
)
def test_what_is_refused(name, changed):
    with pytest.raises((TypeError, ValueError), match=f"{name}: got "):
        models.vae(VECTOR, **changed)


def test_a_decoder_of_another_shape_is_refused():
    autoencoder = vae(VECTOR, decoder=models.MLPDecoder((5,)))
    with pytest.raises(ValueError, match="^decoder: got "):
        autoencoder.init(jax.random.key(0))
    with pytest.raises(ValueError, match="^scale: got "):
        models.normal(0.0)
