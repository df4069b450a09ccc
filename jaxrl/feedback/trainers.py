"""Simulated trainers, who judge single decisions: late, wrongly at times, and seldom.

Legend of shapes: T steps, B environments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.arguments import UNIT, check_callable, check_count, check_float
from jaxrl.ops import across
from jaxrl.types import Array, Transition

JudgeFn = Callable[[Transition], Array]
"""``transitions [T, B] -> [T, B]``: above 0 for a good decision, below 0 for a bad one, 0 to say nothing."""


class Signals(NamedTuple):
    """The signals of a trainer along a trajectory.

    Attributes:
      value: ``[T, B]`` float32: 1 for praise, -1 for blame, 0 where nothing is said.
      given: ``[T, B]`` bool, whether something is said.
    """

    value: Array
    given: Array


class TrainerState(NamedTuple):
    """The state of a trainer.

    Attributes:
      seed: a key of the trainer's own, so that a reward and an update of the same trajectory hear the same signals.
      rollouts: int32, trajectories judged so far.
      used: int32, signals given so far, on all devices.
      per_env: ``[delay, B]`` float32, signals that are still to come.
    """

    seed: Array
    rollouts: Array
    used: Array
    per_env: Array


class Trainer(NamedTuple):
    """A trainer, as functions.

    Attributes:
      init: ``(key, num_envs) -> TrainerState``.
      signals: ``(state, trajectory) -> (Signals, TrainerState)``.
      num_signals: the largest number of signals.
      delay: steps by which signals are late.
    """

    init: Callable[[Array, int], TrainerState]
    signals: Callable[[TrainerState, Transition], tuple[Signals, TrainerState]]
    num_signals: int
    delay: int


def trainer(judge: JudgeFn, *, num_signals: int = 1000, rate: Any = 1.0, mistake: Any = 0.0, delay: int = 0) -> Trainer:
    """A trainer with the flaws of a person: sparse, late and sometimes wrong.

    Args:
      judge: ``transitions -> [T, B]``, whose sign is the verdict on a decision; 0 says nothing.
      num_signals: the number of signals after which the trainer is silent.
      rate: probability that a decision is judged; may be a tracer.
      mistake: probability that a signal has the wrong sign; may be a tracer.
      delay: steps between a decision and the signal about it.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    check_callable("judge", judge, "a function from transitions [T, B] to verdicts [T, B]")
    check_count("num_signals", num_signals)
    check_count("delay", delay, 0)
    check_float("rate", rate, UNIT)
    check_float("mistake", mistake, UNIT)

    def init(key: Array, num_envs: int) -> TrainerState:
        zero = jnp.zeros((), jnp.int32)
        return TrainerState(
            jax.random.bits(key, (2,), jnp.uint32), zero, zero, jnp.zeros((delay, num_envs), jnp.float32)
        )

    def signals(state: TrainerState, trajectory: Transition) -> tuple[Signals, TrainerState]:
        key = jax.random.fold_in(jax.random.wrap_key_data(state.seed, impl="threefry2x32"), state.rollouts)
        rate_key, mistake_key = jax.random.split(across.own(key))
        verdict = jnp.sign(judge(trajectory)).astype(jnp.float32)
        verdict = jnp.where(jax.random.bernoulli(mistake_key, mistake, verdict.shape), -verdict, verdict)
        verdict = jnp.where(jax.random.bernoulli(rate_key, rate, verdict.shape), verdict, 0.0)
        late = jnp.concatenate([state.per_env, verdict])
        said = late[: verdict.shape[0]]
        order = jnp.cumsum((said != 0.0).ravel(), dtype=jnp.int32).reshape(said.shape)
        given = (said != 0.0) & (order <= (num_signals - state.used) // across.size())
        used = state.used + across.total(given.sum(dtype=jnp.int32))
        heard = Signals(jnp.where(given, said, 0.0), given)
        return heard, TrainerState(state.seed, state.rollouts + 1, used, late[verdict.shape[0] :])

    return Trainer(init, signals, num_signals, delay)
