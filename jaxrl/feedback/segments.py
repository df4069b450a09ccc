"""Segments: short stretches of experience, which a teacher compares.

A segment ends where its episode does, and a mask marks the steps that it has. So episodes may differ in length, and
where every step pays the same, as in CartPole, the longer of two segments has the higher return.

Legend of shapes: N segments, L steps of a segment, D features.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl import types
from jaxrl.replay import ring
from jaxrl.replay.ring import Ring
from jaxrl.types import Array, Spec, Transition


class Segments(NamedTuple):
    """Segments, with any leading axes ``...``.

    Attributes:
      transitions: leaves ``[..., L, ...]``, the environment's reward included; next_observation and extras are ().
      mask: ``[..., L]`` bool, True up to the end of the episode, which is included. The other steps are of no meaning.
    """

    transitions: Transition
    mask: Array


def kept(trajectory: Transition, *, states: bool = False) -> Transition:
    """The trajectory without next observations, extras, and the agent's memory, as it is remembered.

    Args:
      trajectory: leaves ``[T, B, ...]``.
      states: keep the simulator's states, where observations have them, so that segments can be drawn.
    """
    seen = trajectory.observation
    if isinstance(seen, types.Observation):
        seen = seen._replace(memory=None, env_state=seen.env_state if states else None)
    return trajectory._replace(observation=seen, next_observation=(), extras=())


def example(spec: Spec, *, states: bool = False) -> Transition:
    """One remembered transition without a batch axis, as shapes and dtypes; ``states`` as in ``kept``."""
    scalar: Any = jax.ShapeDtypeStruct((), jnp.float32)
    flag: Any = jax.ShapeDtypeStruct((), jnp.bool_)
    action: Any = jax.ShapeDtypeStruct((), jnp.int32)
    if isinstance(spec.action, types.Box):
        action = jax.ShapeDtypeStruct(spec.action.shape, jnp.float32)
    return kept(Transition(spec.observation, action, scalar, scalar, flag, flag, spec.observation), states=states)


def draw(key: Array, memory: Ring, count: int, length: int) -> Segments:
    """Segments ``[N, L, ...]`` from uniformly random starts.

    Starts are at least ``length`` steps before the newest transition, where there are so many, so that a segment is cut
    short by the end of its episode only.

    Args:
      key: consumed.
      memory: the remembered transitions, at least one.
      count: N.
      length: L, at most the rows of the memory.
    """
    env_key, row_key = jax.random.split(key)
    env = jax.random.randint(env_key, (count,), 0, memory.num_envs)
    starts = jnp.maximum(memory.filled - length + 1, 1)
    oldest = memory.head - memory.filled
    row = (oldest + jax.random.randint(row_key, (count,), 0, starts)) % memory.rows
    steps, valid = ring.window(memory, row, env, length)
    batch_first = lambda leaf: jnp.moveaxis(leaf, 0, 1)  # noqa: E731
    return Segments(jax.tree.map(batch_first, steps), batch_first(valid) & (memory.filled > 0))


def masked_sum(per_step: Array, mask: Array) -> Array:
    """Sums ``[...]`` of ``[..., L]`` over the steps that a segment has; what the others hold does not matter."""
    return jnp.where(mask, per_step, 0.0).sum(axis=-1)
