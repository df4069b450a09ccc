"""A sequence model of latents as a ``types.Model``, for training in dreams."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.arguments import NON_NEGATIVE, check_float
from jaxrl.models.sequence import SequenceModel
from jaxrl.types import Array, Model, PyTree, Simulated


class DreamState(NamedTuple):
    """A state of a dream.

    Attributes:
      z: ``[L]`` the latent of the current observation.
      memory: memory of the sequence model after the previous steps.
    """

    z: Array
    memory: Any


def observe(state: DreamState) -> Array:
    """``[z, h]``, ``[L + H]``: the observation of a controller, in a dream and in the real environment."""
    return jnp.concatenate([state.z, state.memory.features])


def dream(sequence: SequenceModel, temperature: Any = 1.0) -> Model:
    """A sequence model as a model of the environment, in the space of latents.

    ``h' = f(h, z, a)``, ``z' ~ p(z' | h')`` at a temperature, the observation is ``[z', h']``; the task terminates
    where the termination logit is positive. Ha and Schmidhuber 2018, arXiv:1809.01999, section 4.

    Args:
      sequence: an ``mdn_rnn`` or a ``transformer``.
      temperature: temperature of ``Mixture.sample``; may be a tracer.

    Raises:
      ValueError: the temperature is negative.
    """
    check_float("temperature", temperature, NON_NEGATIVE)

    def step(params: PyTree, key: Array, state: DreamState, action: Array) -> Simulated:
        memory, outputs = sequence.step(params, state.memory, state.z, action)
        after = DreamState(outputs.mixture.sample(key, temperature), memory)
        discount = jnp.where(outputs.termination_logit > 0.0, 0.0, 1.0).astype(jnp.float32)
        return Simulated(after, observe(after), outputs.reward, discount, jnp.zeros((), bool))

    return Model(sequence.init, step)


def wake(sequence: SequenceModel, params: PyTree, state: DreamState, action: Array, z: Array) -> DreamState:
    """The state after a real step: the memory is updated as in a dream, the latent is that of the real observation.

    Args:
      sequence: the model.
      params: its parameters.
      state: state before the step.
      action: the action taken.
      z: ``[L]`` latent of the next observation.
    """
    memory, _ = sequence.step(params, state.memory, state.z, action)
    return DreamState(z, memory)


def first(sequence: SequenceModel, z: Array) -> DreamState:
    """The state at the first observation of an episode, whose latent is ``z [L]``."""
    return DreamState(z, jax.tree.map(jnp.asarray, sequence.memory))
