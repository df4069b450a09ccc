"""Policies and critics of the off-policy actor-critic recipes (DDPG, TD3, SAC)."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl import types
from jaxrl.networks import inputs
from jaxrl.networks.heads import Categorical, CategoricalHead, GaussianHead, NarrowDense, SquashedGaussian, ValueHead
from jaxrl.networks.initializers import orthogonal
from jaxrl.networks.mlp import activation_fn
from jaxrl.networks.q_values import ActionValueHead, QNetwork


class DeterministicPolicy(nn.Module):
    """Actions ``tanh(W f(s) + b)``, ``[N, D]`` in units of the bounds. Lillicrap et al. 2016, "Continuous control".

    Attributes:
      torso: any Flax module from ``[N, *event]`` to features.
      size: D, the number of action dimensions.
      event_rank: the number of axes of one observation's features.
      scale: gain of the initial weights of the outputs; with a small gain, initial actions are near the middle.
    """

    torso: nn.Module
    size: int
    event_rank: int
    scale: float = 0.01

    def setup(self) -> None:
        self.actor_torso = self.torso.clone(name=None)
        self.action_head = NarrowDense(self.size, self.scale)

    def __call__(self, observation: Any) -> jax.Array:
        given = inputs.observation_input(observation, self.event_rank)
        return jnp.tanh(self.action_head(inputs.torso_features(self.actor_torso, given)))


class SquashedGaussianPolicy(nn.Module):
    """The policy of SAC: the tanh of a Gaussian whose mean and standard deviation the network outputs.

    Haarnoja et al. 2018, "Soft actor-critic". The distribution is over raw actions, see ``networks.heads``.

    Attributes:
      torso: any Flax module from ``[N, *event]`` to features.
      size: D, the number of action dimensions.
      event_rank: the number of axes of one observation's features.
      log_std_range: range of the log standard deviation, which is clipped to it, within [-20, 2]; may be tracers.
      scale: gain of the initial weights of both outputs; a small gain gives initial mean 0 and standard deviation 1.
    """

    torso: nn.Module
    size: int
    event_rank: int
    log_std_range: tuple[Any, Any] = (-5.0, 2.0)
    scale: float = 0.01

    def setup(self) -> None:
        self.actor_torso = self.torso.clone(name=None)
        self.policy_head = GaussianHead(self.size, squash=True, state_dependent_std=True, scale=self.scale)

    def __call__(self, observation: Any) -> SquashedGaussian:
        given = inputs.observation_input(observation, self.event_rank)
        policy = self.policy_head(inputs.torso_features(self.actor_torso, given))
        low, high = (jnp.exp(bound) for bound in self.log_std_range)
        return SquashedGaussian(policy.loc, jnp.clip(policy.scale_diag, low, high))


class CategoricalPolicy(nn.Module):
    """The policy of SAC for discrete actions; illegal actions are masked. Christodoulou 2019.

    Attributes:
      torso: any Flax module from ``[N, *event]`` to features.
      num_actions: A.
      event_rank: the number of axes of one observation's features.
    """

    torso: nn.Module
    num_actions: int
    event_rank: int

    def setup(self) -> None:
        self.actor_torso = self.torso.clone(name=None)
        self.policy_head = CategoricalHead(self.num_actions)

    def __call__(self, observation: Any) -> Categorical:
        given = inputs.observation_input(observation, self.event_rank)
        return self.policy_head(inputs.torso_features(self.actor_torso, given), given.mask)


class ContinuousCritic(nn.Module):
    """``Q(s, a)``, ``[N]``, of continuous actions.

    Vector observations are converted to floats and concatenated with the action before the torso. Images (and other
    observations of more than one axis) go through the torso alone; the action is then concatenated with their
    features before one more layer.

    Attributes:
      torso: any Flax module from ``[N, *event]`` to features.
      event_rank: the number of axes of one observation's features.
      hidden: (event_rank above 1) the width of the layer after the concatenation.
      activation: (event_rank above 1) its activation.
    """

    torso: nn.Module
    event_rank: int
    hidden: int = 256
    activation: str = "relu"

    @nn.compact
    def __call__(self, observation: Any, action: jax.Array) -> jax.Array:
        """From observations and actions in units of the bounds, ``[N, ...]``, to ``[N]``."""
        torso = self.torso.clone(name="critic_torso", parent=self)
        given = inputs.observation_input(observation, self.event_rank)
        action = inputs.as_float(action)
        if self.event_rank <= 1:
            action = action.reshape(given.x.shape[0], -1)
            beside = given._replace(x=jnp.concatenate([inputs.as_float(given.x), action], axis=-1))
            features = inputs.torso_features(torso, beside)
        else:
            dense = nn.Dense(self.hidden, kernel_init=orthogonal(), name="joined")
            action = action.reshape(*given.batch, -1)
            joined = jnp.concatenate([inputs.torso_features(torso, given), action], axis=-1)
            features = activation_fn(self.activation)(dense(joined))
        return ValueHead(name="value_head")(features)


class Ensemble(nn.Module):
    """E networks of the same architecture with independent weights, as one vmapped module with outputs ``[E, ...]``.

    Parameters have a leading axis E. E = 2 gives the twin critics of Fujimoto et al. 2018, "Addressing function
    approximation error in actor-critic methods".

    Attributes:
      member: the module; each copy draws independent initial weights and noise.
      size: E.
    """

    member: nn.Module
    size: int = 2

    @nn.compact
    def __call__(self, *args: Any) -> jax.Array:
        # Inputs are copied for each member, which gives batched matrix products, on CPU about as fast as separate
        # critics. A shared input would give one wide product between transpositions, which is slower.
        repeated = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (self.size, *x.shape)), args)
        vmapped = nn.vmap(
            lambda member, args: member(*args),
            variable_axes={True: 0},
            split_rngs={True: True},
            axis_size=self.size,
        )
        return vmapped(self.member.clone(name="members", parent=self), repeated)


def critic_ensemble(action: types.Discrete | types.Box, torso: nn.Module, event_rank: int, size: int = 2) -> Ensemble:
    """The critics for an action space: values of all actions ``[E, N, A]``, or of given actions ``[E, N]``.

    Args:
      action: the action space.
      torso: any Flax module from ``[N, *event]`` to features.
      event_rank: the number of axes of one observation's features.
      size: E.

    Returns:
      An ``Ensemble``, called with observations where actions are discrete, else with observations and actions.
    """
    if isinstance(action, types.Discrete):
        return Ensemble(QNetwork(torso, ActionValueHead(action.num_actions), event_rank), size)
    return Ensemble(ContinuousCritic(torso, event_rank), size)
