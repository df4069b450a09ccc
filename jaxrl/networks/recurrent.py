"""Recurrent networks: an actor-critic on recurrent torsos.

A recurrent torso is a Flax module with a property ``memory``, its memory for one environment (a pytree of
``jax.ShapeDtypeStruct``), and a call ``torso(x, memory, reset) -> (features, memories)``; see ``unroll``.
Legend: N sequences, T steps of each, D features.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl import types
from jaxrl.networks import inputs
from jaxrl.networks.actor_critic import ActorCritic

PyTree = Any


class Memory(NamedTuple):
    """The memory of an actor-critic, leaves ``[N, ...]``; () for a part without memory.

    Attributes:
      actor: memory of the actor's torso.
      critic: memory of the critic's torso; () where it shares the actor's torso or there is no critic.
    """

    actor: PyTree
    critic: PyTree


class Sequences(NamedTuple):
    """Sequences of consecutive steps, the training data of a recurrent network.

    Attributes:
      observation: ``[N, T, ...]``, without memory.
      memory: leaves ``[N, ...]``, the memory before the first step.
      reset: ``[N, T]`` bool, True at the first step of an episode, where the memory is set to zero.
    """

    observation: Any
    memory: Memory
    reset: jax.Array


def is_recurrent(torso: Any) -> bool:
    """Whether a torso is recurrent, that is, has a memory."""
    return hasattr(torso, "memory")


def memory_of(torso: nn.Module, *, share_torso: bool = False, critic: bool = True) -> Memory:
    """The memory of an on-policy recipe with this torso, for one environment: the argument of ``jaxrl.envs.remember``.

    Args:
      torso: a recurrent torso such as ``GRU()``.
      share_torso: as given to the recipe; without it actor and critic have a torso and a memory each.
      critic: False for a recipe without a critic, ``reinforce(baseline=False)``.

    Raises:
      TypeError: the torso has no memory.
    """
    if not is_recurrent(torso):
        raise TypeError(
            f"torso: got {type(torso).__name__}, which has no property memory; must be a recurrent torso such as GRU"
        )
    memory = getattr(torso, "memory")  # noqa: B009  (not every module has it)
    return Memory(memory, memory if critic and not share_torso else ())


def unroll(torso: Any, x: jax.Array, memory: PyTree, reset: jax.Array) -> tuple[jax.Array, PyTree]:
    """Applies a recurrent torso to sequences.

    The torso itself is time-major. It takes ``x [T, N, *event]``, ``memory`` with leaves ``[N, ...]`` before the first
    step, and ``reset [T, N]``, True where the memory is set to zero before the step. It returns ``(features [T, N, D],
    memories)``, where ``memories`` with leaves ``[T, N, ...]`` are the memories after each step.

    Args:
      torso: a recurrent torso, as described above.
      x: ``[N T, *event]``, sequence by sequence.
      memory: leaves ``[N, ...]``.
      reset: ``[N, T]``.

    Returns:
      ``(features [N T, D], memories)``, leaves ``[N, T, ...]``.

    Raises:
      ValueError: features have another shape.
    """
    num, length = reset.shape
    features, memories = torso(jnp.swapaxes(x.reshape(num, length, *x.shape[1:]), 0, 1), memory, reset.T)
    shape = getattr(features, "shape", None)
    if shape is None or len(shape) != 3 or shape[:2] != (length, num):
        raise ValueError(
            f"torso: got features {shape} from {type(torso).__name__}, must be [T, N, D], T = {length}, N = {num}"
        )
    memories = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), memories)
    return jnp.swapaxes(features, 0, 1).reshape(num * length, -1), memories


def as_sequences(observation: Any) -> Sequences:
    """Observations ``[N, ...]`` with a memory as sequences of one step; sequences are returned unchanged."""
    if isinstance(observation, Sequences):
        return observation
    memory = types.memory(observation)
    if memory is None:
        raise ValueError(
            "observation: got no memory, which a recurrent torso needs; wrap the environment in envs.remember"
        )
    one_step = jax.tree.map(lambda leaf: leaf[:, None], observation._replace(memory=None))
    return Sequences(one_step, memory, jnp.zeros((types.features(observation).shape[0], 1), bool))


class RecurrentActorCritic(ActorCritic):
    """``ActorCritic`` on recurrent torsos: takes ``Sequences`` or observations with memory; outputs are ``[N T]``."""

    def _actor(self, sequences: Sequences) -> tuple[jax.Array, PyTree, jax.Array | None]:
        given = inputs.observation_input(sequences.observation, self.event_rank)
        mask = None if given.mask is None else given.mask.reshape(given.x.shape[0], -1)
        return *unroll(self.actor_torso, given.x, sequences.memory.actor, sequences.reset), mask

    def _critic(self, sequences: Sequences) -> tuple[jax.Array, PyTree]:
        given = inputs.observation_input(sequences.observation, self.event_rank)
        memory = sequences.memory.actor if self.share_torso else sequences.memory.critic
        return unroll(self.critic_torso, given.x, memory, sequences.reset)

    def actor_features(self, observation: Any) -> tuple[jax.Array, jax.Array, jax.Array | None]:
        features, _, mask = self._actor(as_sequences(observation))
        return features, features, mask

    def critic_features(self, observation: Any) -> jax.Array:
        return self._critic(as_sequences(observation))[0]

    def remember(self, observation: Any) -> tuple[Any, Memory]:
        """The policy's distribution, batch ``[N]``, and the memory of actor and critic after these observations."""
        sequences = as_sequences(observation)
        features, memories, mask = self._actor(sequences)
        own_critic = self.critic and not self.share_torso
        after = Memory(memories, self._critic(sequences)[1] if own_critic else ())
        return self.policy_head(features, mask), jax.tree.map(lambda leaf: leaf[:, -1], after)

    def evaluate_ahead(self, sequences: Sequences, next_observation: Any) -> tuple[jax.Array, jax.Array]:
        """Values of all observations and of their next observations, including final ones of episodes.

        Args:
          sequences: N sequences of T steps.
          next_observation: ``[N, T, ...]``, evaluated with the memory of the step before, also where the episode ended.

        Returns:
          ``(v_tm1 [N T], v_t [N T])``.
        """
        features, memories = self._critic(sequences)
        flat = lambda tree: jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), tree)  # noqa: E731
        memory = Memory(flat(memories), ()) if self.share_torso else Memory((), flat(memories))
        ahead = as_sequences(flat(next_observation)._replace(memory=memory))
        return self.value_head(features), self.value_head(self._critic(ahead)[0])
