"""DQN: Q-learning with a network, a replay and a target network. Mnih et al. 2015, Nature 518."""

from __future__ import annotations

from typing import Any

from jaxrl.agents.action_values import Criterion, action_values
from jaxrl.agents.signature import extends
from jaxrl.arguments import POSITIVE, check_float
from jaxrl.ops import td, value
from jaxrl.types import Agent, Array, Spec


def expected_value(huber_delta: Any = 1.0) -> Criterion:
    """``L(r + gamma max_a' Q'(s', a') - Q(s, a))``, L Huber's, or the square where ``huber_delta`` is None."""

    def terms(chosen: Array, next_chosen: Array, reward: Array, discount: Array) -> tuple[Array, Array]:
        target = td.one_step_target(reward, discount, next_chosen)
        if huber_delta is None:
            loss = value.squared_error_term(chosen, target)
        else:
            loss = value.huber_term(chosen, target, huber_delta)
        return loss, abs(target - chosen)

    return Criterion(num_outputs=None, mean=lambda values: values, terms=terms)


@extends(action_values, without=("criterion", "name"))
def dqn(spec: Spec, *, huber_delta: float | None = 1.0, **options: Any) -> Agent:
    """Deep Q-network: action values regressed on ``r + gamma max_a' Q_target(s', a')`` from replayed transitions.

    ``L = E w huber(r + gamma Q'(s', a*) - Q(s, a))``, ``a* = argmax Q'(s', .)``, or ``argmax Q(s', .)`` with double.
    Mnih et al. 2015, "Human-level control through deep reinforcement learning". Every float may be a tracer.

    Args:
      spec: of the environment, from ``jaxrl.spec``; its actions are discrete.
      huber_delta: where the loss turns linear; None for the plain square.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    check_float("huber_delta", huber_delta, POSITIVE, optional=True)
    return action_values(spec, criterion=expected_value(huber_delta), name="dqn", **options)
