"""Parts of the recipes with a table of action values: options, acting, updates towards targets.

Legend of shapes: T time, B environments, S states, A actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxrl import types
from jaxrl.agents.parts.functions import Functions
from jaxrl.agents.parts.recurrent import check_no_memory
from jaxrl.arguments import Count, Real, Unit, check_steps
from jaxrl.ops import across, exploration, returns, td
from jaxrl.types import Array, Discrete, Metrics, Spec, Transition


class Table(NamedTuple):
    """The checked options of a table. Floats may be tracers.

    Attributes:
      num_states, num_actions: S and A.
      initial_value: initial value of all entries.
      learning_rate, omega: the step size of an entry is ``learning_rate / visits^omega``.
      gamma: discount factor per step.
      epsilon: fraction of random actions as a function of the environment steps so far.
    """

    num_states: int
    num_actions: int
    initial_value: Any
    learning_rate: Any
    omega: Any
    gamma: Any
    epsilon: Callable[[Array], Array]


def make_table(
    spec: Spec,
    name: str,
    *,
    learning_rate: Unit = 0.1,
    omega: Unit = 0.0,
    gamma: Unit = 0.99,
    epsilon_start: Unit = 1.0,
    epsilon_end: Unit = 0.05,
    epsilon_steps: Count = 100_000,
    initial_value: Real = 0.0,
    num_states: Count | None = None,
) -> Table:
    """The options of all recipes with a table, checked and built into a ``Table``.

    Args:
      spec: the environment's spec, from ``jaxrl.spec``; its actions are discrete, its observations single integers.
      name: name of the recipe, for error messages.
      learning_rate: step size of an entry at its first visit, from 0 to 1.
      omega: the step size is learning_rate / visits^omega; 0 for a constant one, in (0.5, 1] entries converge.
      gamma: discount factor per step.
      epsilon_start: fraction of random actions at the start.
      epsilon_end: fraction of random actions from epsilon_steps on.
      epsilon_steps: environment steps over which epsilon changes linearly from epsilon_start to epsilon_end.
      initial_value: initial value of all entries; optimistic values make the greedy policy try all actions.
      num_states: number of rows of the table; None for the number of observations that the environment declares.

    Raises:
      TypeError, ValueError: the environment's actions or observations do not suit a table.
    """
    check_no_memory(spec, None)
    if not isinstance(spec.action, Discrete):
        raise TypeError(f"spec: got actions {spec.action}, {name} takes discrete ones; see sac and ppo")
    return Table(
        num_states=table_size(spec, num_states, name),
        num_actions=spec.action.num_actions,
        initial_value=initial_value,
        learning_rate=learning_rate,
        omega=omega,
        gamma=gamma,
        epsilon=lambda steps: exploration.linear_schedule(steps, epsilon_start, epsilon_end, epsilon_steps),
    )


def table_size(spec: Spec, num_states: int | None, name: str) -> int:
    """S, as given or as declared by the environment.

    Raises:
      TypeError: observations are not single integers.
      ValueError: their number is unknown, or larger than ``num_states``.
    """
    seen = types.features(spec.observation)
    if seen.shape != () or not jnp.issubdtype(seen.dtype, jnp.integer):
        raise TypeError(
            f"spec: got observations {seen.dtype}{list(seen.shape)}, {name} keeps a table with a row for each "
            "observation, which must be a single integer; number the observations in a wrapper, or use dqn"
        )
    if num_states is None and spec.num_observations is None:
        raise ValueError(f"num_states: got None, {name} needs it where the environment does not declare it")
    if num_states is None:
        return int(spec.num_observations or 0)
    if spec.num_observations is not None and num_states < spec.num_observations:
        raise ValueError(
            f"num_states: got {num_states}, must be at least {spec.num_observations}, as the environment declares"
        )
    return num_states


def init(table: Table) -> tuple[Array, Array]:
    """The initial tables ``[S, A]`` of action values and of visit counts, float32."""
    shape = (table.num_states, table.num_actions)
    return jnp.full(shape, table.initial_value, jnp.float32), jnp.zeros(shape, jnp.float32)


def values(q: Array, observation: Any) -> Array:
    """The rows ``[..., A]`` of a table ``[S, A]`` for observations ``[...]``."""
    return q[types.features(observation)]


def functions() -> Functions:
    """The greedy actions, their values, and the rows of the table; see ``jaxrl.functions``."""

    def action_values(state: Any, observation: Any) -> Array:
        return values(state.params, observation)

    def policy(state: Any, observation: Any) -> Array:
        return td.masked_argmax(action_values(state, observation), types.action_mask(observation))

    def value(state: Any, observation: Any) -> Array:
        return td.masked_max(action_values(state, observation), types.action_mask(observation))

    return Functions(policy, value, action_values)


def act(key: Array, q: Array, observation: Any, epsilon: Array, *, explore: bool) -> Array:
    """Epsilon-greedy actions ``[B]``, or greedy ones without ``explore``."""
    rows, mask = values(q, observation), types.action_mask(observation)
    return exploration.epsilon_greedy(key, rows, epsilon, mask) if explore else td.masked_argmax(rows, mask)


class Step(NamedTuple):
    """Transitions of a table, leaves ``[B]`` or ``[T, B]``.

    Attributes:
      state, action: int32.
      reward: float32.
      discount: the environment's discount, without gamma, float32.
      continues: whether the next index belongs to the same episode.
      next_state: the true next state, which at the end of an episode is its final state.
      next_mask: ``[B, A]`` the legal actions in the next state; None where all are legal.
      next_action: the action taken in the next state, where the episode continues.
      weight: 0 for a placeholder, else 1.
    """

    state: Array
    action: Array
    reward: Array
    discount: Array
    continues: Array
    next_state: Array
    next_mask: Array | None
    next_action: Array
    weight: Array


def as_steps(trajectory: Transition) -> Step:
    """The steps of a trajectory ``[T, B]``; the next actions at the last index are unknown and set to 0.

    Raises:
      ValueError: the trajectory is empty.
    """
    check_steps(trajectory.reward.shape)
    action = trajectory.action.astype(jnp.int32)
    reward = trajectory.reward.astype(jnp.float32)
    return Step(
        state=types.features(trajectory.observation).astype(jnp.int32),
        action=action,
        reward=reward,
        discount=trajectory.discount.astype(jnp.float32),
        continues=returns.continues(trajectory.terminated, trajectory.truncated),
        next_state=types.features(trajectory.next_observation).astype(jnp.int32),
        next_mask=types.action_mask(trajectory.next_observation),
        next_action=jnp.concatenate([action[1:], jnp.zeros_like(action[:1])]),
        weight=jnp.ones_like(reward),
    )


def move(table: Table, q: Array, visits: Array, step: Step, target: Array) -> tuple[Array, Array, Array]:
    """Moves the entries that B environments visited towards their targets ``[B]``.

    ``q <- q + (1 - (1 - alpha)^n) (mean of the n targets - q)`` for an entry that n environments visit at once, with
    ``alpha = learning_rate / visits^omega``: for omega = 0 and n equal targets this
    equals n successive updates; n = 1 is the usual rule ``q <- q + alpha (target - q)``.

    Returns:
      ``(q [S, A], visits [S, A], td_error [B])``.
    """
    entry = (step.state, step.action)
    error = step.weight * (target - q[entry])
    # All devices share the table, so visits are summed over devices.
    count, total = across.total((jnp.zeros_like(q).at[entry].add(step.weight), jnp.zeros_like(q).at[entry].add(error)))
    visits = visits + count
    alpha = table.learning_rate * jnp.maximum(visits, 1.0) ** -jnp.asarray(table.omega, q.dtype)
    q = q + (1.0 - (1.0 - alpha) ** count) * total / jnp.maximum(count, 1.0)
    return q, visits, error


def metrics(table: Table, q: Array, steps: Step, error: Array, seen: Array) -> Metrics:
    """The metrics of an update.

    Args:
      table: options of the table.
      q: ``[S, A]`` after the update.
      steps: ``[T, B]`` the transitions of the update.
      error: ``[T, B]`` temporal-difference errors.
      seen: environment steps before the update, which epsilon counts.
    """
    return {
        "td_error": jnp.abs(error).mean(),
        "value": td.take_action(q[steps.state], steps.action).mean(),
        "epsilon": table.epsilon(seen),
        "learning_rate": jnp.asarray(table.learning_rate, jnp.float32),
    }
