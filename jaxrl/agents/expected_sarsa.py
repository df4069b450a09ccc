"""Expected SARSA with a table. van Seijen et al. 2009."""

from __future__ import annotations

from typing import Any

from jaxrl.agents.signature import extends
from jaxrl.agents.tabular import Step, tabular
from jaxrl.ops import exploration, td
from jaxrl.types import Agent, Array, Spec


def expected(q_t: Array, step: Step, discount_t: Array, epsilon: Array) -> Array:
    """``r + gamma sum_a pi(a|s') Q(s', a)``, pi the epsilon-greedy policy of this table."""
    probs = exploration.epsilon_greedy_probs(q_t, epsilon, step.next_mask)
    return td.expected_sarsa_target(step.reward, discount_t, q_t, probs)


@extends(tabular, without=("target", "needs_next_action", "name"))
def expected_sarsa(spec: Spec, **options: Any) -> Agent:
    """Expected SARSA: the values of the policy that explores, averaged over its next action instead of sampled.

    ``Q(s, a) <- Q(s, a) + alpha (r + gamma sum_a' pi(a'|s') Q(s', a') - Q(s, a))``, pi epsilon-greedy. van Seijen et
    al. 2009, "A theoretical and empirical analysis of expected Sarsa". The table is the latest, epsilon that of the
    rollout. Every float may be a tracer.

    Args:
      spec: of the environment, from ``jaxrl.spec``; its actions are discrete, its observations single integers.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    return tabular(spec, target=expected, needs_next_action=False, name="expected_sarsa", **options)
