"""Action values of discrete actions: heads for expected values, atoms and quantiles, and their network."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks import inputs
from jaxrl.networks.heads import NarrowDense
from jaxrl.networks.initializers import orthogonal
from jaxrl.networks.inputs import flatten_batch
from jaxrl.networks.mlp import activation_fn
from jaxrl.networks.noisy import NoisyDense


class _Stream(nn.Module):
    """Outputs ``[N, size]``, after an optional hidden layer."""

    size: int
    hidden: int | None
    noisy: bool
    sigma: Any
    activation: str
    scale: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if self.hidden is not None:
            if self.noisy:
                x = NoisyDense(self.hidden, self.sigma, name="hidden")(x)
            else:
                x = nn.Dense(self.hidden, kernel_init=orthogonal(), name="hidden")(x)
            x = activation_fn(self.activation)(x)
        if self.noisy:
            return NoisyDense(self.size, self.sigma, name="output")(x)
        return NarrowDense(self.size, self.scale, name="output")(x)


class ActionValueHead(nn.Module):
    """Values of all actions: ``[N, A]``, or ``[N, A, K]`` with K outputs per action (logits of atoms, quantiles).

    The dueling head is ``Q(s, a) = V(s) + A(s, a) - mean_a' A(s, a')``, for each of the K outputs. Wang et al. 2016,
    "Dueling network architectures for deep reinforcement learning"; unlike there, the gradient into the torso is not
    rescaled. The mean is over all actions, including illegal ones.

    Attributes:
      num_actions: A.
      num_outputs: K; None for no axis K.
      dueling: a stream for the value and one for the advantages.
      noisy: use ``NoisyDense`` layers.
      hidden: width of a hidden layer in each stream; None for no hidden layer.
      activation: activation of the hidden layer.
      scale: (not noisy) gain of the orthogonal initial weights of the outputs.
      sigma: (noisy) initial scale of the noise.
    """

    num_actions: int
    num_outputs: int | None = None
    dueling: bool = False
    noisy: bool = False
    hidden: int | None = None
    activation: str = "relu"
    scale: float = 1.0
    sigma: Any = 0.5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """From features ``[..., D]`` to values ``[..., A]`` or ``[..., A, K]``."""
        x, batch = flatten_batch(x, 1)
        num_outputs = 1 if self.num_outputs is None else self.num_outputs

        def stream(num: int, name: str) -> jax.Array:
            options = (self.hidden, self.noisy, self.sigma, self.activation, self.scale)
            return _Stream(num * num_outputs, *options, name=name)(x).reshape(*batch, num, num_outputs)

        values = stream(self.num_actions, "advantage" if self.dueling else "action_value")
        if self.dueling:
            values = stream(1, "value") + values - values.mean(axis=-2, keepdims=True)
        return values[..., 0] if self.num_outputs is None else values


class ImplicitQuantileHead(nn.Module):
    """Quantiles ``[N, A, M]`` of the return of each action at given fractions.

    ``Z_tau(s, a) = f(psi(s) * phi(tau))_a``, ``phi_j(tau) = relu(sum_{i<n} cos(pi i tau) w_ij + b_j)``. Dabney et al.
    2018, "Implicit quantile networks for distributional reinforcement learning".

    Attributes:
      head: ``f``, from features ``[N, D]`` to action values ``[N, A]``: an ``ActionValueHead``.
      num_cosines: n.
    """

    head: nn.Module
    num_cosines: int = 64

    @nn.compact
    def __call__(self, x: jax.Array, tau: jax.Array) -> jax.Array:
        """From features ``[..., D]`` and fractions ``[..., M]``, or ``[M]`` for the same fractions everywhere."""
        if tau.ndim == 0 or tau.shape[:-1] not in ((), x.shape[:-1]):
            raise ValueError(f"tau: got shape {list(tau.shape)}, must be {[*x.shape[:-1], 'M']} or ['M']")
        x, batch = flatten_batch(x, 1)
        fractions = tau.reshape(-1, tau.shape[-1], 1)
        cosines = jnp.cos(math.pi * jnp.arange(self.num_cosines, dtype=jnp.float32).reshape(1, 1, -1) * fractions)
        embedding = nn.relu(nn.Dense(x.shape[-1], kernel_init=orthogonal(), name="embedding")(cosines))
        joined = x[:, None, :] * embedding
        values = self.head.clone(name="values", parent=self)(joined.reshape(-1, x.shape[-1]))
        if values.ndim != 2:
            raise ValueError(
                f"head: returned {list(values.shape)}, must return action values [N, A]; leave num_outputs None"
            )
        values = values.reshape(*joined.shape[:2], -1).swapaxes(1, 2)
        return values.reshape(*batch, *values.shape[1:])


class QNetwork(nn.Module):
    """A torso and a head of action values.

    Attributes:
      torso: any Flax module from ``[N, *event]`` to features ``[N, D]``.
      head: module from features (and further inputs) to values: ``ActionValueHead``, ``ImplicitQuantileHead``.
      event_rank: the number of axes of one observation's features.
    """

    torso: nn.Module
    head: nn.Module
    event_rank: int

    def setup(self) -> None:
        self.q_torso = self.torso.clone(name=None)
        self.q_head = self.head.clone(name=None)

    def embed(self, observation: Any) -> jax.Array:
        """Features ``[..., D]``."""
        return inputs.torso_features(self.q_torso, inputs.observation_input(observation, self.event_rank))

    def from_features(self, features: jax.Array, *head_inputs: Any) -> jax.Array:
        """The head's outputs for features from ``embed``, which can be computed once for several calls."""
        return self.q_head(features, *head_inputs)

    def __call__(self, observation: Any, *head_inputs: Any) -> jax.Array:
        return self.from_features(self.embed(observation), *head_inputs)
