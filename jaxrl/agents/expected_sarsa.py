"""Expected SARSA with a table. van Seijen et al. 2009."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.parts import tabular
from jaxrl.agents.parts.functions import Functions
from jaxrl.agents.parts.tabular import Step
from jaxrl.ops import across, exploration, numerics, returns, td
from jaxrl.signature import recipe
from jaxrl.types import Agent, Array, Metrics, Spec, Transition


class ExpectedSarsaState(NamedTuple):
    """The state of ``expected_sarsa``.

    Attributes:
      params: ``[S, A]`` action values, the table.
      visits: ``[S, A]`` float32, how often each entry was updated.
      steps: int32, environment steps seen, all environments together.
    """

    params: Array
    visits: Array
    steps: Array


@recipe(extends=tabular.make_table)
def expected_sarsa(spec: Spec, **options: Any) -> Agent:
    """Expected SARSA: the target averages over the next actions of the exploring policy instead of sampling one.

    ``Q(s, a) <- Q(s, a) + alpha (r + gamma sum_a' pi(a'|s') Q(s', a') - Q(s, a))``, pi epsilon-greedy. van Seijen et
    al. 2009, "A theoretical and empirical analysis of expected Sarsa". pi is greedy with respect to the
    current table and uses the rollout's epsilon. Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``; its actions are discrete, its observations single integers.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    table = tabular.make_table(spec, "expected_sarsa", **options)

    def init(key: Array, num_envs: int = 1) -> ExpectedSarsaState:
        return ExpectedSarsaState(*tabular.init(table), steps=jnp.zeros((), jnp.int32))

    def act(
        key: Array, state: ExpectedSarsaState, observation: Any, *, explore: bool = True
    ) -> tuple[Array, tuple[()]]:
        return tabular.act(key, state.params, observation, table.epsilon(state.steps), explore=explore), ()

    def update(key: Array, state: ExpectedSarsaState, trajectory: Transition) -> tuple[ExpectedSarsaState, Metrics]:
        steps, epsilon = tabular.as_steps(trajectory), table.epsilon(state.steps)

        def learn(carry: tuple[Array, Array], step: Step) -> tuple[tuple[Array, Array], Array]:
            q, visits = carry
            q_t = q[step.next_state]
            discount_t = returns.bootstrap_discount(step.discount, table.gamma)
            # r + gamma sum_a pi(a|s') Q(s', a), pi epsilon-greedy
            probs_t = exploration.epsilon_greedy_probs(q_t, epsilon, step.next_mask)
            target = td.expected_sarsa_target(step.reward, discount_t, q_t, probs_t)
            q, visits, error = tabular.move(table, q, visits, step, target)
            return (q, visits), error

        (q, visits), error = jax.lax.scan(learn, (state.params, state.visits), steps)
        seen = numerics.count_up(state.steps, trajectory.reward.size * across.size())
        return ExpectedSarsaState(q, visits, seen), tabular.metrics(table, q, steps, error, state.steps)

    return Agent(init, act, update)


def functions(spec: Spec) -> Functions:
    """The greedy actions, their values, and the rows of the table; see ``jaxrl.functions``."""
    del spec
    return tabular.functions()
