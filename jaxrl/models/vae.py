"""The variational autoencoder. Kingma and Welling 2014, arXiv:1312.6114.

Legend of shapes: B observations, L latent numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl import types
from jaxrl.arguments import Count, NonNegative
from jaxrl.models.images import ConvDecoder, ConvEncoder, MLPDecoder
from jaxrl.models.likelihoods import BERNOULLI, Likelihood
from jaxrl.networks import MLP, as_float
from jaxrl.networks.conv import is_image
from jaxrl.networks.initializers import gaussian
from jaxrl.signature import Torso, recipe
from jaxrl.types import Array, PyTree, Spec


class Latent(NamedTuple):
    """A diagonal Gaussian over latent vectors, leaves ``[..., L]``."""

    mean: Array
    log_std: Array

    def sample(self, key: Array) -> Array:
        """``mean + std * noise``, ``[..., L]``."""
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(self.log_std) * noise

    def kl(self) -> Array:
        """``KL(q || N(0, I)) = sum_l (mean^2 + std^2 - 1) / 2 - log std``, ``[...]``."""
        return (0.5 * (jnp.square(self.mean) + jnp.exp(2.0 * self.log_std) - 1.0) - self.log_std).sum(-1)


class Terms(NamedTuple):
    """The two terms of the evidence lower bound, ``[B]`` each: ``elbo = log_likelihood - kl``."""

    log_likelihood: Array
    kl: Array


class VAE(NamedTuple):
    """A variational autoencoder, as functions.

    Attributes:
      init: ``key -> params``.
      encode: ``(params, observation [B, ...]) -> Latent [B]``, the posterior.
      decode: ``(params, z [B, L]) -> [B, ...]``, the mean of the observation.
      terms: ``(params, key, observation [B, ...]) -> Terms``, with one sample of z per observation.
      loss: ``(params, key, observation [B, ...]) -> [B]``, for ``models.fit``.
    """

    init: Callable[..., PyTree]
    encode: Callable[..., Latent]
    decode: Callable[..., Array]
    terms: Callable[..., Terms]
    loss: Callable[..., Array]


class _Autoencoder(nn.Module):
    encoder: nn.Module
    decoder: nn.Module
    latent_size: int

    def setup(self) -> None:
        self.own_encoder, self.own_decoder = self.encoder.clone(name=None), self.decoder.clone(name=None)
        self.posterior = nn.Dense(2 * self.latent_size, kernel_init=gaussian(0.1))

    def encode(self, x: Array) -> Latent:
        mean, log_std = jnp.split(self.posterior(self.own_encoder(x)), 2, axis=-1)
        return Latent(mean, jnp.clip(log_std, -10.0, 10.0))  # so that exp does not overflow

    def decode(self, z: Array) -> Array:
        return self.own_decoder(z)

    def __call__(self, x: Array) -> Array:
        return self.decode(self.encode(x).mean)


@recipe
def vae(
    spec: Spec,
    *,
    latent_size: Count = 32,
    likelihood: Annotated[Likelihood, "a models.Likelihood such as models.BERNOULLI"] = BERNOULLI,
    kl_weight: NonNegative = 1.0,
    free_nats: NonNegative = 0.0,
    encoder: Torso | None = None,
    decoder: Torso | None = None,
) -> VAE:
    """A variational autoencoder, which compresses observations to Gaussian latent vectors.

    ``loss = -sum_pixels log p(x | z) + beta max(KL(q(z | x) || N(0, I)), free_nats)`` with ``z ~ q(z | x)``. Kingma and
    Welling 2014, "Auto-encoding variational Bayes", arXiv:1312.6114. Both terms are sums per observation, over pixels
    and over latent numbers. With means instead, the KL would be weighted too strongly, by the ratio of pixels to latent
    numbers, and the posterior would collapse.

    Args:
      spec: the environment's spec; features of dtype uint8 are scaled to [0, 1].
      latent_size: L.
      likelihood: likelihood of the features: BERNOULLI or SUM_OF_SQUARES for numbers in [0, 1], ``normal(scale)``, or a
        custom one.
      kl_weight: beta.
      free_nats: the loss does not reduce the KL of an observation below it.
      encoder: Flax module from ``[B, ...]`` to features ``[B, F]``, before a linear layer; None chooses ConvEncoder for
        images whose height and width are multiples of 4, else an MLP.
      decoder: Flax module from ``[B, L]`` to ``[B, ...]``; None chooses ConvDecoder or MLPDecoder.

    Returns:
      A ``VAE``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.

    >>> import jaxrl
    >>> from jaxrl import models
    >>> autoencoder = models.vae(jaxrl.spec(jaxrl.make("Pendulum-v1")[0]), latent_size=2, likelihood=models.normal(0.1))
    >>> params = autoencoder.init(jax.random.key(0))
    >>> autoencoder.encode(params, jnp.zeros((8, 3))).mean.shape
    (8, 2)
    """
    shape = types.features(spec.observation).shape
    is_convolutional = is_image(shape) and shape[0] % 4 == 0 and shape[1] % 4 == 0
    if encoder is None:
        encoder = ConvEncoder() if is_convolutional else MLP((256,), "relu")
    if decoder is None:
        decoder = ConvDecoder(shape) if is_convolutional else MLPDecoder(shape)
    network = _Autoencoder(encoder, decoder, latent_size)

    def pixels(observation: Any) -> Array:
        return as_float(types.features(observation))

    def init(key: Array) -> PyTree:
        params = network.init(key, jnp.zeros((1, *shape), jnp.float32))
        outputs = jax.eval_shape(lambda: network.apply(params, jnp.zeros((1, *shape), jnp.float32)))
        if outputs.shape != (1, *shape):
            raise ValueError(f"decoder: got outputs {outputs.shape}, must be observations {(1, *shape)}")
        return params

    def encode(params: PyTree, observation: Any) -> Latent:
        return network.apply(params, pixels(observation), method="encode")  # type: ignore[return-value]

    def outputs(params: PyTree, z: Array) -> Array:
        return network.apply(params, z, method="decode")  # type: ignore[return-value]

    def decode(params: PyTree, z: Array) -> Array:
        return likelihood.mean(outputs(params, z))

    def terms(params: PyTree, key: Array, observation: Any) -> Terms:
        posterior = encode(params, observation)
        log_probs = likelihood.log_prob(outputs(params, posterior.sample(key)), pixels(observation))
        return Terms(log_probs.reshape(log_probs.shape[0], -1).sum(-1), posterior.kl())

    def loss(params: PyTree, key: Array, observation: Any) -> Array:
        log_likelihood, kl = terms(params, key, observation)
        return kl_weight * jnp.maximum(kl, free_nats) - log_likelihood

    return VAE(init, encode, decode, terms, loss)
