"""Q-learning with a table. Watkins 1989, "Learning from delayed rewards"."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.agents.parts import tabular
from jaxrl.agents.parts.functions import Functions
from jaxrl.agents.parts.tabular import Step
from jaxrl.ops import across, numerics, returns, td
from jaxrl.signature import recipe
from jaxrl.types import Agent, Array, Metrics, Spec, Transition


class QLearningState(NamedTuple):
    """The state of ``q_learning``.

    Attributes:
      params: ``[S, A]`` action values, the table.
      visits: ``[S, A]`` float32, how often each entry was updated.
      steps: int32, environment steps seen, all environments together.
    """

    params: Array
    visits: Array
    steps: Array


@recipe(extends=tabular.make_table)
def q_learning(spec: Spec, **options: Any) -> Agent:
    """Q-learning: a table of action values learned from ``r + gamma max_a Q(s', a)``, off-policy.

    ``Q(s, a) <- Q(s, a) + alpha (r + gamma max_a' Q(s', a') - Q(s, a))``. Watkins 1989; Watkins and Dayan 1992.
    Simultaneous visits of several environments to one entry count as successive visits. Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``; its actions are discrete, its observations single integers.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    table = tabular.make_table(spec, "q_learning", **options)

    def init(key: Array, num_envs: int = 1) -> QLearningState:
        return QLearningState(*tabular.init(table), steps=jnp.zeros((), jnp.int32))

    def act(key: Array, state: QLearningState, observation: Any, *, explore: bool = True) -> tuple[Array, tuple[()]]:
        return tabular.act(key, state.params, observation, table.epsilon(state.steps), explore=explore), ()

    def update(key: Array, state: QLearningState, trajectory: Transition) -> tuple[QLearningState, Metrics]:
        steps = tabular.as_steps(trajectory)

        def learn(carry: tuple[Array, Array], step: Step) -> tuple[tuple[Array, Array], Array]:
            q, visits = carry
            discount_t = returns.bootstrap_discount(step.discount, table.gamma)
            # r + gamma max_a Q(s', a), over the legal actions
            target = td.q_learning_target(step.reward, discount_t, q[step.next_state], step.next_mask)
            q, visits, error = tabular.move(table, q, visits, step, target)
            return (q, visits), error

        (q, visits), error = jax.lax.scan(learn, (state.params, state.visits), steps)
        seen = numerics.count_up(state.steps, trajectory.reward.size * across.size())
        return QLearningState(q, visits, seen), tabular.metrics(table, q, steps, error, state.steps)

    return Agent(init, act, update)


def functions(spec: Spec) -> Functions:
    """The greedy actions, their values, and the rows of the table; see ``jaxrl.functions``."""
    del spec
    return tabular.functions()
