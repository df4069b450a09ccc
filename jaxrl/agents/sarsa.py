"""SARSA with a table. Rummery and Niranjan 1994."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl import types
from jaxrl.agents.parts import tabular
from jaxrl.agents.parts.functions import Functions
from jaxrl.agents.parts.tabular import Step
from jaxrl.ops import across, exploration, numerics, returns, td
from jaxrl.signature import recipe
from jaxrl.types import Agent, Array, Metrics, Spec, Transition


class SarsaState(NamedTuple):
    """The state of ``sarsa``.

    Attributes:
      params: ``[S, A]`` action values, the table.
      visits: ``[S, A]`` float32, how often each entry was updated.
      steps: int32, environment steps seen, all environments together.
      per_env: the last step of each environment ``[B]``, which waits for its next action.
    """

    params: Array
    visits: Array
    steps: Array
    per_env: Step


@recipe(extends=tabular.make_table)
def sarsa(spec: Spec, **options: Any) -> Agent:
    """SARSA: on-policy values of the exploring policy, learned from the actions that it takes.

    ``Q(s, a) <- Q(s, a) + alpha (r + gamma Q(s', a') - Q(s, a))``. Rummery and Niranjan 1994; Sutton and Barto 2018,
    section 6.4. The last step of a rollout waits in the state for the action of the next one. A truncated
    episode has no ``a'``; its target is the expectation over the policy. Every float may be a tracer.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``; its actions are discrete, its observations single integers.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    table = tabular.make_table(spec, "sarsa", **options)
    masked = types.action_mask(spec.observation) is not None

    def init(key: Array, num_envs: int = 1) -> SarsaState:
        integer, number = jnp.zeros(num_envs, jnp.int32), jnp.zeros(num_envs, jnp.float32)
        mask = jnp.ones((num_envs, table.num_actions), bool) if masked else None
        nothing = Step(integer, integer, number, number, jnp.zeros(num_envs, bool), integer, mask, integer, number)
        return SarsaState(*tabular.init(table), steps=jnp.zeros((), jnp.int32), per_env=nothing)

    def act(key: Array, state: SarsaState, observation: Any, *, explore: bool = True) -> tuple[Array, tuple[()]]:
        return tabular.act(key, state.params, observation, table.epsilon(state.steps), explore=explore), ()

    def update(key: Array, state: SarsaState, trajectory: Transition) -> tuple[SarsaState, Metrics]:
        epsilon = table.epsilon(state.steps)
        steps, waiting = complete(state.per_env, tabular.as_steps(trajectory))

        def learn(carry: tuple[Array, Array], step: Step) -> tuple[tuple[Array, Array], Array]:
            q, visits = carry
            q_t = q[step.next_state]
            discount_t = returns.bootstrap_discount(step.discount, table.gamma)
            # r + gamma Q(s', a')
            sampled = td.sarsa_target(step.reward, discount_t, q_t, step.next_action)
            # r + gamma sum_a pi(a|s') Q(s', a), where no a' follows
            probs_t = exploration.epsilon_greedy_probs(q_t, epsilon, step.next_mask)
            expected = td.expected_sarsa_target(step.reward, discount_t, q_t, probs_t)
            target = jnp.where(step.continues, sampled, expected)
            q, visits, error = tabular.move(table, q, visits, step, target)
            return (q, visits), error

        (q, visits), error = jax.lax.scan(learn, (state.params, state.visits), steps)
        seen = numerics.count_up(state.steps, trajectory.reward.size * across.size())
        return SarsaState(q, visits, seen, waiting), tabular.metrics(table, q, steps, error, state.steps)

    return Agent(init, act, update)


def functions(spec: Spec) -> Functions:
    """The greedy actions, their values, and the rows of the table; see ``jaxrl.functions``."""
    del spec
    return tabular.functions()


def complete(waiting: Step, steps: Step) -> tuple[Step, Step]:
    """Prepends the waiting steps ``[B]`` to ``[T, B]`` new ones; the last new ones become the waiting steps.

    Returns:
      ``(steps [T, B], waiting [B])``; the next actions of all returned steps are known.
    """
    waiting = waiting._replace(next_action=steps.action[0])
    ready = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), waiting, steps)
    return ready, jax.tree.map(lambda x: x[-1], steps)
