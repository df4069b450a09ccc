"""The tabular skeleton: a table of action values, moved towards a target step by step. Recipes bind the target."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl import types
from jaxrl.agents.validation import check_arguments
from jaxrl.arguments import UNIT, check_count, check_float
from jaxrl.ops import across, exploration, returns, td
from jaxrl.types import Agent, Array, Discrete, Metrics, Spec, Transition


class Step(NamedTuple):
    """What a table learns from, leaves ``[B]`` or ``[T, B]``.

    Attributes:
      state, action: what was seen, and done there.
      reward: float32.
      discount: weight of the future, gamma left out.
      goes_on: whether the next index belongs to the same episode.
      next_state: the true next one, at the end of an episode the final one.
      next_mask: ``[B, A]`` what is legal there; None where everything is.
      next_action: what was done there, where the episode goes on.
      weight: 0 for what never happened, else 1.
    """

    state: Array
    action: Array
    reward: Array
    discount: Array
    goes_on: Array
    next_state: Array
    next_mask: Array | None
    next_action: Array
    weight: Array


class TabularState(NamedTuple):
    """The state of a tabular agent.

    Attributes:
      params: ``[S, A]`` action values, the table.
      visits: ``[S, A]`` float32, how often each was learned from.
      steps: int32, environment steps seen, all environments together.
      per_env: the ``Step`` of each environment that waits for its next action; () where nothing waits.
    """

    params: Array
    visits: Array
    steps: Array
    per_env: Any


TargetFn = Callable[[Array, Step, Array, Array], Array]


@dataclasses.dataclass(frozen=True)
class Tabular:
    """What the recipes differ in. Floats may be tracers; the rest is static.

    Attributes:
      spec: the environment's.
      num_states: S.
      target: ``(q_t [B, A], step, discount_t [B], epsilon) -> [B]``, q_t the values at next states.
      needs_next_action: the target reads it, so that steps are learned from when it is known.
      learning_rate, omega: the step size is ``learning_rate / visits^omega``.
      epsilon: a function of the count of steps.
      gamma: discount of the future, a step.
      initial_value: of all entries.
    """

    spec: Spec
    num_states: int
    target: TargetFn
    needs_next_action: bool
    learning_rate: Any
    omega: Any
    epsilon: Callable[[Array], Array]
    gamma: Any
    initial_value: Any


def init(config: Tabular, key: Array, num_envs: int = 1) -> TabularState:
    """A fresh table; nothing in it is random. See ``types.InitFn``."""
    action: Any = config.spec.action
    shape = (config.num_states, action.num_actions)
    integer, number = jnp.zeros(num_envs, jnp.int32), jnp.zeros(num_envs)
    mask = types.action_mask(config.spec.observation)
    mask = None if mask is None else jnp.ones((num_envs, shape[1]), bool)
    never = Step(integer, integer, number, number, jnp.zeros(num_envs, bool), integer, mask, integer, number)
    return TabularState(
        params=jnp.full(shape, config.initial_value, jnp.float32),
        visits=jnp.zeros(shape),
        steps=jnp.zeros((), jnp.int32),
        per_env=never if config.needs_next_action else (),
    )


def values(params: Array, observation: Any) -> Array:
    """The rows ``[..., A]`` of a table for observations ``[...]``."""
    return params[types.features(observation)]


def act(
    config: Tabular, key: Array, state: TabularState, observation: Any, *, explore: bool = True
) -> tuple[Array, tuple[()]]:
    """Epsilon-greedy, or the best known action; see ``types.ActFn``."""
    rows, mask = values(state.params, observation), types.action_mask(observation)
    if explore:
        return exploration.epsilon_greedy(key, rows, config.epsilon(state.steps), mask), ()
    return td.masked_argmax(rows, mask), ()


def as_steps(trajectory: Transition) -> Step:
    """A trajectory ``[T, B]`` as a table sees it; the next actions of its last index are unknown, and 0."""
    action = trajectory.action.astype(jnp.int32)
    return Step(
        state=types.features(trajectory.observation).astype(jnp.int32),
        action=action,
        reward=trajectory.reward,
        discount=trajectory.discount,
        goes_on=returns.continues(trajectory.terminated, trajectory.truncated),
        next_state=types.features(trajectory.next_observation).astype(jnp.int32),
        next_mask=types.action_mask(trajectory.next_observation),
        next_action=jnp.concatenate([action[1:], jnp.zeros_like(action[:1])]),
        weight=jnp.ones_like(trajectory.reward),
    )


def complete(waiting: Step, steps: Step) -> tuple[Step, Step]:
    """Puts the waiting steps ``[B]`` in front and lets the last ones wait.

    Returns:
      ``(steps [T, B], waiting [B])``; all next actions of steps are known.
    """
    waiting = waiting._replace(next_action=steps.action[0])
    ready = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), waiting, steps)
    return ready, jax.tree.map(lambda x: x[-1], steps)


def learn(config: Tabular, q: Array, visits: Array, step: Step, epsilon: Array) -> tuple[Array, Array, Array]:
    """One step of the table on one step of B environments.

    ``q <- q + (1 - (1 - alpha)^n) (mean of the n targets - q)`` for an entry that n environments visit at once, with
    ``alpha = learning_rate / visits^omega``: n equal targets move it as far as one after another would, however many
    they are, and n = 1 is the plain rule.

    Returns:
      ``(q, visits, td_error [B])``.
    """
    discount_t = returns.bootstrap_discount(step.discount, config.gamma)
    target = config.target(q[step.next_state], step, discount_t, epsilon)
    entry = (step.state, step.action)
    error = step.weight * (target - q[entry])
    # Visits on other devices are visits: a table that is split nowhere learns from all environments.
    count, total = across.total((jnp.zeros_like(q).at[entry].add(step.weight), jnp.zeros_like(q).at[entry].add(error)))
    visits = visits + count
    alpha = config.learning_rate * jnp.maximum(visits, 1.0) ** -jnp.asarray(config.omega, q.dtype)
    q = q + (1.0 - (1.0 - alpha) ** count) * total / jnp.maximum(count, 1.0)
    return q, visits, error


def update(config: Tabular, key: Array, state: TabularState, trajectory: Transition) -> tuple[TabularState, Metrics]:
    """Learns from one rollout, index by index; see ``types.UpdateFn``."""
    steps, waiting = as_steps(trajectory), state.per_env
    if config.needs_next_action:
        steps, waiting = complete(waiting, steps)
    # Of the policy that acted.
    epsilon = config.epsilon(state.steps)

    def body(carry: tuple[Array, Array], step: Step) -> tuple[tuple[Array, Array], Array]:
        q, visits, error = learn(config, *carry, step, epsilon)
        return (q, visits), error

    (q, visits), error = jax.lax.scan(body, (state.params, state.visits), steps)
    metrics = {"td_error": jnp.abs(error).mean(), "value": td.take_action(q[steps.state], steps.action).mean()}
    steps_seen = state.steps + trajectory.reward.size * across.size()
    return TabularState(q, visits, steps_seen, waiting), metrics


def table_size(spec: Spec, num_states: int | None, name: str) -> int:
    """S, as given or as the environment declares it.

    Raises:
      TypeError: observations that are no single integers.
      ValueError: their number is unknown, or larger than the one given.
    """
    seen = types.features(spec.observation)
    if seen.shape != () or not jnp.issubdtype(seen.dtype, jnp.integer):
        raise TypeError(
            f"spec: {name} keeps a table with a row for each observation, which must be a single integer; the "
            f"environment has {seen.dtype}{list(seen.shape)}. Number its observations in a wrapper, or use dqn"
        )
    if num_states is None and spec.num_observations is None:
        raise ValueError(f"num_states: the environment does not say how many observations {name} has to tell apart")
    if num_states is None:
        return int(spec.num_observations or 0)
    check_count("num_states", num_states)
    if spec.num_observations is not None and num_states < spec.num_observations:
        raise ValueError(f"num_states: got {num_states}, the environment has {spec.num_observations} observations")
    return num_states


def tabular(
    spec: Spec,
    *,
    target: TargetFn,
    needs_next_action: bool,
    name: str,
    learning_rate: float = 0.1,
    omega: float = 0.0,
    gamma: float = 0.99,
    epsilon_start: float = 1.0,
    epsilon_end: float = 0.05,
    epsilon_steps: int = 100_000,
    initial_value: float = 0.0,
    num_states: int | None = None,
) -> Agent:
    """An agent with a table of action values; what its recipes are made of.

    Args:
      spec: of the environment, from ``jaxrl.spec``; its actions are discrete, its observations single integers.
      target: what entries are moved towards, see ``Tabular``.
      needs_next_action: the target reads the next action.
      name: of the recipe, for its errors.
      learning_rate: how far an entry moves towards its target at its first visit, from 0 to 1.
      omega: the step size is learning_rate / visits^omega; 0 keeps it, above 0.5 and up to 1 entries converge.
      gamma: discount of the future, a step.
      epsilon_start: share of random actions at the start.
      epsilon_end: share of random actions from epsilon_steps on.
      epsilon_steps: environment steps over which epsilon goes linearly from start to end.
      initial_value: of all entries; above what can be reached, it makes the greedy policy try everything.
      num_states: rows of the table; None for the number of observations that the environment declares.

    Returns:
      An ``Agent``.

    Raises:
      TypeError, ValueError: an argument of the wrong kind or outside its range, named.
    """
    check_arguments(locals())
    check_float("learning_rate", learning_rate, UNIT)
    if not isinstance(spec.action, Discrete):
        raise TypeError(f"spec: {name} chooses among discrete actions, the environment has {spec.action}")
    config = Tabular(
        spec=spec,
        num_states=table_size(spec, num_states, name),
        target=target,
        needs_next_action=needs_next_action,
        learning_rate=learning_rate,
        omega=omega,
        epsilon=lambda steps: exploration.linear_schedule(steps, epsilon_start, epsilon_end, epsilon_steps),
        gamma=gamma,
        initial_value=initial_value,
    )
    return Agent(init=partial(init, config), act=partial(act, config), update=partial(update, config))
