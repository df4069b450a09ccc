"""MuZero's networks: h from observations to hidden states, g from state and action to the next, f to policy and value.

Legend of shapes: N states, A actions, D numbers of a hidden state, M bins of a number.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.networks import inputs
from jaxrl.networks.heads import NarrowDense
from jaxrl.networks.initializers import orthogonal
from jaxrl.networks.mlp import MLP
from jaxrl.networks.residual import Residual


def unit_range(state: jax.Array) -> jax.Array:
    """``(s - min s) / (max s - min s)`` scales each state ``[..., D]`` to [0, 1], the range of actions (appendix G).

    A state whose numbers are all equal is only shifted: a division by nearly 0 would make gradients explode.
    """
    low = jnp.min(state, axis=-1, keepdims=True)
    span = jnp.max(state, axis=-1, keepdims=True) - low
    return (state - low) / jnp.where(span > 1e-5, span, 1.0)


class DenseDynamics(nn.Module):
    """The next hidden state from a state and an action, ``W mlp([s, one_hot(a)]) + b``.

    Attributes:
      num_actions: A.
      hidden: the width of each hidden layer.
    """

    num_actions: int
    hidden: tuple[int, ...] = (128,)

    @nn.compact
    def __call__(self, state: jax.Array, action: jax.Array) -> jax.Array:
        """From ``[N, D]`` and ``[N]`` to ``[N, D]``."""
        joined = jnp.concatenate([state, jax.nn.one_hot(action, self.num_actions)], axis=-1)
        return nn.Dense(state.shape[-1], kernel_init=orthogonal())(MLP(self.hidden, "relu")(joined))


class BoardDynamics(nn.Module):
    """The dynamics of hidden states that are planes of a board: residual blocks, with the action as one more plane.

    The plane of an action is learned, since actions of different games (columns, points) have different positions.

    Attributes:
      num_actions: A.
      torso: the residual blocks; the hidden state has as many planes as its output.
      board: height and width.
    """

    num_actions: int
    torso: Residual
    board: tuple[int, int]

    @nn.compact
    def __call__(self, state: jax.Array, action: jax.Array) -> jax.Array:
        """From ``[N, H * W * planes]`` and ``[N]`` to the next state."""
        planes = state.reshape(-1, *self.board, self.torso.planes)
        where = nn.Embed(self.num_actions, self.board[0] * self.board[1], embedding_init=orthogonal())(action)
        joined = jnp.concatenate([planes, where.reshape(-1, *self.board, 1)], axis=-1)
        return self.torso.clone(name="blocks", parent=self)(joined)


class MuZero(nn.Module):
    """Representation h, dynamics g and prediction f. Schrittwieser et al. 2020, arXiv:1911.08265.

    Attributes:
      torso: h, any Flax module from ``[N, *event]`` to hidden states ``[N, D]``.
      dynamics: from hidden states ``[N, D]`` and actions ``[N]`` to the next ones.
      num_actions: A.
      num_bins: M, the number of bins of rewards and of values.
      event_rank: the number of axes of one observation's features.
      hidden: the width of the hidden layer of each head.
    """

    torso: nn.Module
    dynamics: nn.Module
    num_actions: int
    num_bins: int
    event_rank: int
    hidden: int = 64

    def setup(self) -> None:
        self.representation = self.torso.clone(name=None)
        self.transition = self.dynamics.clone(name=None)
        self.reward_head = _Head(self.num_bins, self.hidden)
        self.value_head = _Head(self.num_bins, self.hidden)
        self.policy_head = _Head(self.num_actions, self.hidden)

    def represent(self, observation: Any) -> jax.Array:
        """``s^0 = h(o)``: hidden states ``[..., D]``."""
        given = inputs.observation_input(observation, self.event_rank)
        return unit_range(inputs.torso_features(self.representation, given))

    def step(self, state: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        """``r^k, s^k = g(s^{k-1}, a^k)``: the next states ``[N, D]``, and logits of the reward ``[N, M]``."""
        state = unit_range(self.transition(state, action))
        return state, self.reward_head(state)

    def predict(self, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        """``p^k, v^k = f(s^k)``: logits of the policy ``[..., A]`` and of the value ``[..., M]``."""
        return self.policy_head(state), self.value_head(state)

    def __call__(self, observation: Any, action: jax.Array) -> Any:
        """Calls all three, for the initialisation of parameters."""
        state, reward = self.step(self.represent(observation), action)
        return reward, self.predict(state)


class _Head(nn.Module):
    """A hidden layer, then logits that are initially near 0."""

    size: int
    hidden: int

    @nn.compact
    def __call__(self, state: jax.Array) -> jax.Array:
        flat, batch = inputs.flatten_batch(state, 1)
        hidden = nn.relu(nn.Dense(self.hidden, kernel_init=orthogonal())(flat))
        return NarrowDense(self.size, 0.01)(hidden).reshape(*batch, self.size)
