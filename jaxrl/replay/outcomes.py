"""A replay of positions, sampled once the outcome of their game is known.

Games span rollouts. A position is stored at once, with the sum of the rewards since and the weight of the rest
(``ops.outcomes``); every rollout brings both up to date, and the position is drawn from when nothing of it is open.

Legend: T time, B environments, N samples, rows of the ring.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.replay import ring as rings
from jaxrl.replay.ring import Ring
from jaxrl.types import Array, Transition


class Position(NamedTuple):
    """A batch of positions.

    Attributes:
      observation: leaves ``[N, ...]``.
      policy: ``[N, A]`` the policy that the search found.
      outcome: ``[N]`` the return that followed.
    """

    observation: Any
    policy: Array
    outcome: Array


def _stored(observation: Any, policy: Any, total: Any, weight: Any) -> Transition:
    """In a ring's ``Transition`` the reward is the sum so far, the discount the weight of what is open."""
    return Transition(observation, (), total, weight, (), (), (), policy)  # type: ignore[arg-type]


def init(observation: Any, num_actions: int, rows: int, num_envs: int) -> Ring:
    """An empty ring of positions.

    Args:
      observation: one observation without a batch axis, arrays or ``jax.ShapeDtypeStruct``.
      num_actions: A.
      rows: steps kept of each environment.
      num_envs: B.
    """
    number: Any = jax.ShapeDtypeStruct((), jnp.float32)
    policy: Any = jax.ShapeDtypeStruct((num_actions,), jnp.float32)
    return rings.init(_stored(observation, policy, number, number), rows, num_envs)


def add(
    ring: Ring, observation: Any, policy: Array, total: Array, weight: Array, value: Array, n_step: int | None = None
) -> Ring:
    """Brings what is open up to date, and writes a rollout over the oldest rows.

    Args:
      ring: the storage.
      observation: leaves ``[T, B, ...]``.
      policy: ``[T, B, A]``.
      total, weight: ``[T, B]``, from ``ops.outcomes.open_returns``.
      value: ``[B]`` of the last next observation.
      n_step: what is at least so many steps old stops waiting and takes ``value`` for the rest; None waits for the end.

    Raises:
      ValueError: more steps than rows, or too few rows to wait ``n_step`` steps and up to a rollout more.
    """
    length = total.shape[0]
    needed = length if n_step is None else n_step + length - 1
    if ring.rows < needed:
        what = "" if n_step is None else f" and n_step, {n_step}, need {needed}"
        raise ValueError(
            f"replay_capacity: keeps {ring.rows} steps of each of {ring.num_envs} environments, a rollout of {length}"
            f"{what or f' needs {needed}'}; take a larger one, or fewer environments"
        )
    kept = ring.transitions
    waited = kept._replace(reward=kept.reward + kept.discount * total[:1], discount=kept.discount * weight[:1])
    ring = rings.add(ring._replace(transitions=waited), _stored(observation, policy, total, weight))
    if n_step is None:
        return ring
    kept = ring.transitions
    age = (ring.head - 1 - jnp.arange(ring.rows, dtype=jnp.int32)) % ring.rows + 1
    old = (age >= n_step)[:, None]
    closed = jnp.where(old, kept.reward + kept.discount * value[None], kept.reward)
    return ring._replace(transitions=kept._replace(reward=closed, discount=jnp.where(old, 0.0, kept.discount)))


def overwritten(ring: Ring, length: int) -> Array:
    """int32, how many positions a rollout of ``length`` steps will write over before their outcome is known.

    They are lost. Games of more moves than there are rows lose their openings, and always the same ones.
    """
    age = (ring.head - 1 - jnp.arange(ring.rows, dtype=jnp.int32)) % ring.rows + 1
    gone = (age > ring.rows - length) & (jnp.arange(ring.rows, dtype=jnp.int32) < ring.filled)
    return ((ring.transitions.discount != 0) & gone[:, None]).sum(dtype=jnp.int32)


def counts(ring: Ring) -> Array:
    """``[rows x B]`` int32: how many positions, up to each of them, have their outcome; the last entry counts all."""
    closed = (ring.transitions.discount == 0) & (jnp.arange(ring.rows, dtype=jnp.int32)[:, None] < ring.filled)
    return jnp.cumsum(closed.reshape(-1).astype(jnp.int32))


def sample(key: Array, ring: Ring, counted: Array, batch_size: int) -> Position:
    """Draws positions that have their outcome, uniformly and with replacement.

    Args:
      key: consumed.
      ring: the storage.
      counted: its ``counts``.
      batch_size: N.

    Returns:
      Leaves ``[N, ...]``; where no position has its outcome yet, the last slot, which is nothing to learn from.
    """
    number = jax.random.randint(key, (batch_size,), 0, jnp.maximum(counted[-1], 1), jnp.int32)
    slot = jnp.minimum(jnp.searchsorted(counted, number, side="right"), counted.size - 1)
    kept = rings.take(ring.transitions, slot // ring.num_envs, slot % ring.num_envs)
    return Position(kept.observation, kept.extras, kept.reward)
