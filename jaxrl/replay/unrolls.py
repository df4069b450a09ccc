"""Unrolls: K steps from a ring, and what a model that is unrolled along their actions should predict.

From a position t of an episode, for k from 0 to K,

  reward_k    r_{t+k+1}, what the action at t+k paid
  value_k     r_{t+k+1} + ... + (the discounts of n steps) nu_{t+k+n}, nu the value that a search found there; or
              without nu, and with the observation there, whose value the caller adds (Reanalyze, appendix H)
  policy_k    pi_{t+k}, the policy that a search found

Schrittwieser et al. 2020, arXiv:1911.08265, eq. 1 and appendix G. Behind a termination the state is absorbing: rewards
and values are 0, there is no policy to learn, and actions are random. Behind a truncation, and behind what is stored so
far, nothing is known.

Legend: T time, B environments, N samples, K steps of an unroll, n steps of a return, A actions, rows of the ring.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.ops import returns
from jaxrl.replay import ring as rings
from jaxrl.replay.base import Replay, Slot
from jaxrl.replay.prioritized import PrioritizedState
from jaxrl.replay.ring import Ring
from jaxrl.types import Array, Transition


class Searched(NamedTuple):
    """The ``extras`` of a transition in the ring.

    Attributes:
      policy: ``[..., A]`` that the search found.
      value: ``[...]`` that the search found.
      next_value: ``[...]`` of the true next observation, by a network: read where nothing stored follows.
    """

    policy: Array
    value: Array
    next_value: Array


class Bootstrap(NamedTuple):
    """The bootstrap of an n-step return: ``weight * v(observation)``, to be added to the sum of rewards.

    Attributes:
      observation: leaves ``[K + 1, N, ...]`` at t + k + n; any where the weight is 0.
      weight: ``[K + 1, N]`` the discounts of n steps; 0 where the return ends before them, and is complete.
    """

    observation: Any
    weight: Array


class Unroll(NamedTuple):
    """A batch of unrolls.

    Attributes:
      observation: leaves ``[N, ...]`` of the first step.
      action: ``[K, N]`` int32.
      reward: ``[K, N]`` of these actions.
      value: ``[K + 1, N]``, without the bootstrap if there is one.
      policy: ``[K + 1, N, A]``.
      inside: ``[K + 1, N]`` bool, True where the position is one of the episode: its policy is known.
      known: ``[K + 1, N]`` bool, True there and behind a termination: value, and reward where k < K, are known.
      weight: ``[N]`` importance weights.
      index: where the unrolls begin, the argument of ``update_priorities``.
      bootstrap: what to add to the values, or None if they bootstrap from the values of the searches.
    """

    observation: Any
    action: Array
    reward: Array
    value: Array
    policy: Array
    inside: Array
    known: Array
    weight: Array
    index: Any  # a Slot
    bootstrap: Bootstrap | None = None


def example(observation: Any, num_actions: int) -> Transition:
    """One transition as it is stored, without its next observation: shapes and dtypes alone.

    Args:
      observation: one observation, arrays or ``jax.ShapeDtypeStruct``.
      num_actions: A.
    """
    number: Any = jax.ShapeDtypeStruct((), jnp.float32)
    action: Any = jax.ShapeDtypeStruct((), jnp.int32)
    flag: Any = jax.ShapeDtypeStruct((), jnp.bool_)
    policy: Any = jax.ShapeDtypeStruct((num_actions,), jnp.float32)
    return Transition(observation, action, number, number, flag, flag, (), Searched(policy, number, number))


def along(replay: Replay, *, unroll_steps: int, n_step: int, gamma: Any, fresh: bool = False) -> Replay:
    """The replay whose samples are ``Unroll``s, each from a step that ``replay`` draws.

    Args:
      replay: uniform or prioritised, of windows of one step.
      unroll_steps, n_step, gamma, fresh: as of ``at``.
    """

    def init(example: Transition, num_envs: int) -> Any:
        state = replay.init(example, num_envs)
        if not isinstance(state, (Ring, PrioritizedState)):
            raise TypeError(f"replay: got one whose state is {type(state).__name__}, must be uniform or prioritized")
        return state

    def sample(key: Array, state: Any, batch_size: int, *, reward_fn: Any = None) -> Any:
        del reward_fn
        slot_key, action_key = jax.random.split(key)
        drawn = replay.sample(slot_key, state, batch_size)  # the step itself is not read, and so not gathered
        ring = state if isinstance(state, Ring) else state.ring
        steps = {"unroll_steps": unroll_steps, "n_step": n_step}
        return at(action_key, ring, drawn.index, drawn.weight, **steps, gamma=gamma, fresh=fresh)

    return replay._replace(init=init, sample=sample)


def at(
    key: Array,
    ring: Ring,
    slot: Slot,
    weight: Array,
    *,
    unroll_steps: int,
    n_step: int,
    gamma: Any,
    fresh: bool = False,
) -> Unroll:
    """The unrolls that begin at ``slot`` ``[N]``.

    Args:
      key: consumed, for the actions behind a termination.
      ring: of transitions whose extras are ``Searched``.
      slot: ``[N]``, of a filled ring.
      weight: ``[N]``.
      unroll_steps: K, at least 1.
      n_step: n, at least 1.
      gamma: the discount of a step, may be a tracer.
      fresh: whether to leave out the values of the searches and give the ``Bootstrap`` in their place.
    """
    kept, last = ring.transitions, unroll_steps + n_step
    slots = rings.window_slots(ring, slot, last + 1)
    signals = kept.reward, kept.discount, kept.terminated, kept.truncated, kept.extras.value, kept.extras.next_value
    reward, discount, terminated, truncated, value, next_value = rings.take(signals, *slots)
    inside = rings.window_valid(ring, slot, terminated | truncated)
    # What follows a step: the value that the search found there, or the network's where there is no such step.
    v_t = jnp.where(inside[1:], 0.0 if fresh else value[1:], next_value[:-1])
    discount_t = returns.bootstrap_discount(discount[:-1], gamma)
    found = returns.n_step_returns(reward[:-1], discount_t, v_t, inside[1:], n_step)
    bootstrap = None
    if fresh:
        one_t = inside[1:].astype(jnp.float32)
        remaining = returns.n_step_returns(jnp.zeros_like(one_t), discount_t, one_t, inside[1:], n_step)
        behind = jax.tree.map(lambda x: x[n_step:], slots)
        bootstrap = Bootstrap(rings.take(kept.observation, *behind), remaining[: unroll_steps + 1])
    inside_k, terminated_k = inside[: unroll_steps + 1], (inside & terminated)[:unroll_steps]
    absorbed = jnp.cumsum(terminated_k, axis=0, dtype=jnp.int32) > 0
    absorbed = jnp.concatenate([jnp.zeros_like(absorbed[:1]), absorbed])
    action, policy = rings.take(
        (kept.action, kept.extras.policy), *jax.tree.map(lambda x: x[: unroll_steps + 1], slots)
    )
    noise = jax.random.randint(key, action.shape, 0, policy.shape[-1], action.dtype)
    return Unroll(
        observation=rings.take(kept.observation, *slot),
        action=jnp.where(inside_k, action, noise)[:-1],
        reward=jnp.where(inside_k, reward[: unroll_steps + 1], 0.0)[:-1],
        value=jnp.where(inside_k, found[: unroll_steps + 1], 0.0),
        policy=jnp.where(inside_k[..., None], policy, 0.0),
        inside=inside_k,
        known=inside_k | absorbed,
        weight=weight,
        index=slot,
        bootstrap=bootstrap,
    )


__all__ = ["Bootstrap", "Searched", "Unroll", "along", "at", "example"]


def __dir__() -> list[str]:
    return sorted(__all__)
