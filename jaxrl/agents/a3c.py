"""A3C: the asynchronous advantage actor-critic. Mnih et al. 2016, arXiv:1602.01783.

Asynchrony has two forms here: on paper, as a delay of every gradient, in ``a3c``; and for real, in threads, for which
``halves`` cuts an agent's update where a worker hands its gradient over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax

from jaxrl import optim
from jaxrl.agents import on_policy
from jaxrl.agents.a2c import a2c
from jaxrl.agents.on_policy import DROPOUT, OnPolicy, OnPolicyState
from jaxrl.agents.signature import extends
from jaxrl.ops.value import explained_variance
from jaxrl.types import Agent, Array, Metrics, PyTree, Spec, Transition


@extends(a2c)
def a3c(spec: Spec, *, delay: int = 3, max_delay: int | None = None, **options: Any) -> Agent:
    """Asynchronous advantage actor-critic: A2C by gradients that come late; ``--workers N`` has the threads.

    On paper ``theta_{t+1} = theta_t - rmsprop(g(theta_{t-k}))``, what each of k + 1 workers in turn does to the others.
    Mnih et al. 2016, "Asynchronous methods for deep reinforcement learning", arXiv:1602.01783. Reproducible, and
    vmappable over seeds and delays; the threads are in ``training.asynchronous``. Every float may be a tracer.

    Args:
      spec: of the environment, from ``jaxrl.spec``.
      delay: k, by how many updates a gradient is late; 0 is A2C. May be a tracer, with ``max_delay``.
      max_delay: gradients that are kept, at least the delay; None keeps as many as the delay.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    config = on_policy.config_of(a2c(spec, **options))
    # The mean over devices comes first, so that all devices wait for the same gradients.
    optimizer = optim.averaged(optim.delayed(delay, config.optimizer, max_delay=max_delay))
    return on_policy.bind(dataclasses.replace(config, optimizer=optimizer))


class Halves(NamedTuple):
    """An agent's update, cut where a worker hands its gradient over.

    Attributes:
      gradients: ``(key, state, trajectory) -> (gradients, metrics)``.
      apply: ``(state, gradients) -> state``; the state may have gone on since the gradients were computed.
    """

    gradients: Callable[[Array, PyTree, Transition], tuple[PyTree, Metrics]]
    apply: Callable[[PyTree, PyTree], PyTree]


def _gradients(config: OnPolicy, key: Array, state: OnPolicyState, trajectory: Transition) -> tuple[PyTree, Metrics]:
    estimated = on_policy.estimate(config, state.params, trajectory)
    batch = on_policy.make_batch(trajectory, estimated)
    # That of the one minibatch of the one epoch, as ``on_policy.update`` draws it.
    dropout_key = jax.random.split(jax.random.fold_in(jax.random.split(key, 1)[0], DROPOUT), 1)[0]
    grads, metrics = on_policy.gradients(config, state.params, batch, config.settings(state.updates), dropout_key)
    if config.network.critic:
        metrics = {**metrics, "explained_variance": explained_variance(estimated.value, estimated.target)}
    return grads, metrics


def _apply(config: OnPolicy, state: OnPolicyState, grads: PyTree) -> OnPolicyState:
    params, optimizer_state = on_policy.apply_gradients(config, state.params, state.optimizer_state, grads)
    return state._replace(params=params, optimizer_state=optimizer_state, updates=state.updates + 1)


def halves(agent: Agent) -> Halves:
    """The two halves of an update of one gradient step: those of ``a2c``, ``reinforce`` and ``a3c``.

    Raises:
      TypeError: no on-policy agent.
      ValueError: one whose update is no single gradient step, or that keeps running statistics.
    """
    config = on_policy.config_of(agent)
    if config.step_rule is not None or config.num_epochs * config.num_minibatches > 1:
        raise ValueError("agent: its update is more than one gradient step; workers take a2c, a3c, or reinforce")
    for name in ("normalize_observation", "normalize_reward"):
        if getattr(config, name):
            raise ValueError(f"{name}: got True, must be False: asynchronous workers share parameters, not statistics")
    return Halves(partial(_gradients, config), partial(_apply, config))
