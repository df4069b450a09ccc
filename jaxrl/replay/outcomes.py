"""A replay of positions, which are sampled once the outcome of their game is known.

Games can span several rollouts. A position is stored at once with the sum of the rewards so far and the weight of the
unknown rest (``ops.outcomes``). Every rollout updates both, and the position can be sampled when that weight is 0.

Legend of shapes: T time, B environments, N samples, rows of the ring.
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
      policy: ``[N, A]``, the policy that the search found.
      outcome: ``[N]``, the return from the position on.
    """

    observation: Any
    policy: Array
    outcome: Array


def _stored(observation: Any, policy: Any, total: Any, weight: Any) -> Transition:
    """In a ring's ``Transition`` the reward is the sum so far and the discount is the weight of the unknown rest."""
    return Transition(observation, (), total, weight, (), (), (), policy)  # type: ignore[arg-type]


def init(observation: Any, num_actions: int, rows: int, num_envs: int) -> Ring:
    """Returns an empty ring of positions.

    Args:
      observation: one observation without a batch axis, of arrays or ``jax.ShapeDtypeStruct``.
      num_actions: A.
      rows: the number of steps kept per environment.
      num_envs: B.
    """
    number: Any = jax.ShapeDtypeStruct((), jnp.float32)
    policy: Any = jax.ShapeDtypeStruct((num_actions,), jnp.float32)
    return rings.init(_stored(observation, policy, number, number), rows, num_envs)


def add(
    ring: Ring, observation: Any, policy: Array, total: Array, weight: Array, value: Array, n_step: int | None = None
) -> Ring:
    """Updates the positions whose outcome is unknown and writes a rollout over the oldest rows.

    Args:
      ring: the storage.
      observation: leaves ``[T, B, ...]``.
      policy: ``[T, B, A]``.
      total, weight: ``[T, B]``, the results of ``ops.outcomes.open_returns``.
      value: ``[B]``, the values of the last next observations.
      n_step: positions at least this many steps old use ``value`` for the rest; None waits for the end of the game.

    Raises:
      ValueError: the rollout has more steps than rows, or there are too few rows to wait ``n_step`` steps plus a
        rollout.
    """
    length = total.shape[0]
    needed = length if n_step is None else n_step + length - 1
    if ring.rows < needed:
        what = "" if n_step is None else f" and n_step, {n_step}, need {needed}"
        raise ValueError(
            f"replay_capacity: got {ring.rows} steps for each of {ring.num_envs} environments, too few for a rollout "
            f"of {length}{what or f', which needs {needed}'}; increase it or use fewer environments"
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
    """int32, the number of positions that a rollout of ``length`` steps overwrites before their outcome is known.

    They are lost: games with more moves than there are rows always lose their openings.
    """
    age = (ring.head - 1 - jnp.arange(ring.rows, dtype=jnp.int32)) % ring.rows + 1
    gone = (age > ring.rows - length) & (jnp.arange(ring.rows, dtype=jnp.int32) < ring.filled)
    return ((ring.transitions.discount != 0) & gone[:, None]).sum(dtype=jnp.int32)


def counts(ring: Ring) -> Array:
    """``[rows x B]`` int32: the cumulative number of positions with a known outcome; the last entry is the total."""
    closed = (ring.transitions.discount == 0) & (jnp.arange(ring.rows, dtype=jnp.int32)[:, None] < ring.filled)
    return jnp.cumsum(closed.reshape(-1).astype(jnp.int32))


def sample(key: Array, ring: Ring, counted: Array, batch_size: int) -> Position:
    """Samples positions with a known outcome, uniformly and with replacement.

    Args:
      key: consumed.
      ring: the storage.
      counted: the result of ``counts``.
      batch_size: N.

    Returns:
      Leaves ``[N, ...]``. If no position has a known outcome yet, the last slot, which must not be learned from.
    """
    number = jax.random.randint(key, (batch_size,), 0, jnp.maximum(counted[-1], 1), jnp.int32)
    slot = jnp.minimum(jnp.searchsorted(counted, number, side="right"), counted.size - 1)
    kept = rings.take(ring.transitions, slot // ring.num_envs, slot % ring.num_envs)
    return Position(kept.observation, kept.extras, kept.reward)
