"""Sequence models of latent vectors: the contract, their outputs, and their loss.

Legend of shapes: N sequences, T steps of each, L latent numbers, K components, H features.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.models.mixture import Chain, Mixture, mixture
from jaxrl.models.vae import Latent
from jaxrl.networks.actions import action_input
from jaxrl.networks.initializers import gaussian
from jaxrl.types import Array, Box, Discrete, PyTree


class LatentSequences(NamedTuple):
    """Sequences of transitions with encoded observations; leaves ``[N, T, ...]``.

    Latents are posteriors, not samples, so that every minibatch samples z again, as in Ha and Schmidhuber 2018: a model
    of fixed samples would overfit their noise.

    Attributes:
      latent: ``[N, T, L]`` posteriors of the observations.
      action: ``[N, T, ...]``.
      reward: ``[N, T]``.
      terminated: ``[N, T]`` bool.
      next_latent: ``[N, T, L]`` posteriors of the true next observations.
      reset: ``[N, T]`` bool, True at the first step of an episode.
      valid: ``[N, T]`` bool, the steps that the loss includes.
    """

    latent: Latent
    action: Array
    reward: Array
    terminated: Array
    next_latent: Latent
    reset: Array
    valid: Array


class Outputs(NamedTuple):
    """The predictions of a sequence model after each step.

    Attributes:
      mixture: distribution of the next latent.
      reward: ``[...]`` reward of the step.
      termination_logit: ``[...]``, positive where the task is taken to terminate with the step.
      features: ``[..., H]`` summary of the steps so far, an input of controllers together with z.
    """

    mixture: Mixture | Chain
    reward: Array
    termination_logit: Array
    features: Array


class UnrollFn(Protocol):
    """``unroll`` of a sequence model."""

    def __call__(self, params: PyTree, z: Array, action: Array, reset: Array) -> Outputs:
        """Outputs ``[N, T]`` of latents ``[N, T, L]``, actions ``[N, T, ...]`` and resets ``[N, T]``."""
        ...


class StepFn(Protocol):
    """``step`` of a sequence model."""

    def __call__(self, params: PyTree, memory: PyTree, z: Array, action: Array) -> tuple[PyTree, Outputs]:
        """One step of one sequence: the memory after it, and the outputs. ``vmap`` it for a batch."""
        ...


class SequenceModel(NamedTuple):
    """A sequence model, as functions.

    Attributes:
      init: ``key -> params``.
      memory: the memory before the first step of one sequence; controllers read its field ``features`` ``[H]``.
      unroll: computes the outputs of whole sequences.
      step: computes one step; successive steps equal ``unroll``.
      loss: ``(params, key, LatentSequences) -> [N]``, for ``models.fit``.
      latent_size: L.
      feature_size: H.
    """

    init: Any
    memory: PyTree
    unroll: UnrollFn
    step: StepFn
    loss: Any
    latent_size: int
    feature_size: int


class Heads(nn.Module):
    """From features ``[..., H]`` to ``Outputs``.

    Attributes:
      latent_size: L.
      num_components: K.
      floor: smallest standard deviation of a component.
      chain_size: U, units through which a number depends on those before it; 0 for independent numbers.
    """

    latent_size: int
    num_components: int
    floor: float
    chain_size: int

    @nn.compact
    def __call__(self, features: Array) -> Outputs:
        size = self.latent_size * 3 * self.num_components
        raw = nn.Dense(size + 2, kernel_init=gaussian(1.0))(features)
        return Outputs(
            mixture=self._chain(raw[..., :size], features)
            if self.chain_size
            else mixture(raw[..., :size], self.num_components, self.floor),
            reward=raw[..., size],
            termination_logit=raw[..., size + 1],
            features=features,
        )

    def _chain(self, raw: Array, features: Array) -> Chain:
        latents, units, parameters = self.latent_size, self.chain_size, 3 * self.num_components
        hidden = nn.Dense(latents * units, kernel_init=gaussian(1.0), name="chain_hidden")(features)
        scale = nn.initializers.normal(1.0 / math.sqrt(latents))
        before = self.param("chain_before", scale, (latents, latents, units), jnp.float32)
        is_before = np.tri(latents, k=-1, dtype=np.float32).T[..., None]  # [j, l]: j < l
        after = self.param("chain_after", nn.initializers.normal(0.1), (latents, units, parameters), jnp.float32)
        batch = features.shape[:-1]
        lead = (1,) * len(batch)
        return Chain(
            raw.reshape(*batch, latents, parameters),
            hidden.reshape(*batch, latents, units),
            (before * is_before).reshape(*lead, *before.shape),
            after.reshape(*lead, *after.shape),
            jnp.asarray(self.floor, jnp.float32).reshape(lead),
        )


def step_input(space: Discrete | Box, z: Array, action: Array) -> Array:
    """The input of a step from latent and action, ``[..., L + A]``."""
    return jnp.concatenate([z.astype(jnp.float32), action_input(space, action)], axis=-1)


def loss_of(unroll: UnrollFn, reward_coef: Any, termination_coef: Any, terminal_weight: Any) -> Any:
    """``loss`` of a sequence model.

    ``-log p(z_{t+1} | z_{<=t}, a_{<=t}) + c_r (r - r')^2 / 2 - c_d (w d log p_d + (1 - d) log(1 - p_d))``, with d = 1
    where the task terminates: summed over latent numbers and averaged over the valid steps of a sequence. The logit of
    p_d is positive where the true probability is above ``1 / (1 + w)``.
    """

    def loss(params: PyTree, key: Array, batch: LatentSequences) -> Array:
        key, next_key = jax.random.split(key)
        outputs = unroll(params, batch.latent.sample(key), batch.action, batch.reset)
        surprise = -outputs.mixture.log_prob(batch.next_latent.sample(next_key).astype(jnp.float32))
        reward = 0.5 * jnp.square(outputs.reward - batch.reward.astype(jnp.float32))
        logit = outputs.termination_logit
        end = jnp.where(batch.terminated, terminal_weight * jax.nn.softplus(-logit), jax.nn.softplus(logit))
        terms = jnp.where(batch.valid, surprise + reward_coef * reward + termination_coef * end, 0.0)
        return terms.sum(1) / jnp.maximum(batch.valid.sum(1), 1).astype(jnp.float32)

    return loss
