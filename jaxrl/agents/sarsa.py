"""SARSA with a table. Rummery and Niranjan 1994."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jaxrl.agents.expected_sarsa import expected
from jaxrl.agents.signature import extends
from jaxrl.agents.tabular import Step, tabular
from jaxrl.ops import td
from jaxrl.types import Agent, Array, Spec


def sampled(q_t: Array, step: Step, discount_t: Array, epsilon: Array) -> Array:
    """``r + gamma Q(s', a')``; where an episode was cut there is no ``a'``, and its mean stands in."""
    taken = td.sarsa_target(step.reward, discount_t, q_t, step.next_action)
    return jnp.where(step.goes_on, taken, expected(q_t, step, discount_t, epsilon))


@extends(tabular, without=("target", "needs_next_action", "name"))
def sarsa(spec: Spec, **options: Any) -> Agent:
    """SARSA: the values of the policy that explores, learned from the actions that it takes.

    ``Q(s, a) <- Q(s, a) + alpha (r + gamma Q(s', a') - Q(s, a))``. Rummery and Niranjan 1994; Sutton and Barto 2018,
    section 6.4. The last step of a rollout waits in the state for the action of the next one. Every float may be a
    tracer.

    Args:
      spec: of the environment, from ``jaxrl.spec``; its actions are discrete, its observations single integers.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    return tabular(spec, target=sampled, needs_next_action=True, name="sarsa", **options)
