"""Q-learning with a table. Watkins 1989, "Learning from delayed rewards"."""

from __future__ import annotations

from typing import Any

from jaxrl.agents.signature import extends
from jaxrl.agents.tabular import Step, tabular
from jaxrl.ops import td
from jaxrl.types import Agent, Array, Spec


def best(q_t: Array, step: Step, discount_t: Array, epsilon: Array) -> Array:
    """``r + gamma max_a Q(s', a)`` over legal actions."""
    return td.q_learning_target(step.reward, discount_t, q_t, step.next_mask)


@extends(tabular, without=("target", "needs_next_action", "name"))
def q_learning(spec: Spec, **options: Any) -> Agent:
    """Q-learning: a table of action values learned from ``r + gamma max_a Q(s', a)``, whatever policy acts.

    ``Q(s, a) <- Q(s, a) + alpha (r + gamma max_a' Q(s', a') - Q(s, a))``. Watkins 1989; Watkins and Dayan 1992.
    Several environments that visit one entry at once count as visits one after another. Every float may be a tracer.

    Args:
      spec: of the environment, from ``jaxrl.spec``; its actions are discrete, its observations single integers.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    return tabular(spec, target=best, needs_next_action=False, name="q_learning", **options)
