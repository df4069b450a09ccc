"""The training loop of rollouts and updates. It is pure: ``jit`` it, ``vmap`` it over seeds and hyper-parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.arguments import check_count, check_key
from jaxrl.envs.abstract import success_of
from jaxrl.ops import across
from jaxrl.rollout import reset, rollout
from jaxrl.types import Agent, Array, Metrics, PyTree, Transition


class TrainState(NamedTuple):
    """Everything that training needs to continue, and nothing else.

    Attributes:
      agent: the agent's state.
      env_state: the states of the B environments.
      observation: ``[B, ...]``, the last observations.
      episode_return: ``[B]``, of the current episodes.
      episode_length: ``[B]`` int32, likewise.
      updates: int32, updates done; update i uses ``fold_in(run_key, i)``, so interruptions have no effect.
      stopped: bool, whether ``on_update`` stopped the run; calls with an ``on_update`` then do nothing.
    """

    agent: PyTree
    env_state: PyTree
    observation: Any
    episode_return: Array
    episode_length: Array
    updates: Array
    stopped: Array


START, UPDATES = 0x57A27, 0x0BDA7E5
"""Folded into a run's key; large, so that a caller's ``fold_in(key, 1)`` or ``split(key)`` draws other numbers."""

OnUpdate = Callable[[TrainState, Metrics], tuple[Metrics, Any]]


def count_updates(num_steps: int, num_envs: int, rollout_length: int) -> int:
    """The number of updates in a budget of environment steps: ``num_steps // (num_envs * rollout_length)``.

    Raises:
      ValueError: an argument below 1, or a budget too small for one update.
    """
    for name, value in (("num_steps", num_steps), ("num_envs", num_envs), ("rollout_length", rollout_length)):
        check_count(name, value)
    if num_steps < num_envs * rollout_length:
        raise ValueError(
            f"num_steps: got {num_steps}, must be at least num_envs x rollout_length = {num_envs * rollout_length}"
        )
    return num_steps // (num_envs * rollout_length)


def strong_type(x: Array) -> Array:
    """The value without a weak type, which would retrace the second chunk and is lost in a checkpoint."""
    return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else jax.lax.convert_element_type(x, x.dtype)


def start(key: Array, agent: Agent, env: Any, params: Any, num_envs: int) -> TrainState:
    """The first state of a run, made by one jitted program, so that no two leaves share a buffer.

    Args:
      key: the key of the run, as ``train`` takes it.
      agent: any agent.
      env, params: a gymnax environment and its parameters.
      num_envs: B.

    Raises:
      TypeError: ``key`` is not a PRNG key.
    """
    check_key(key)

    @jax.jit
    def make(key: Array, params: Any) -> TrainState:
        agent_key, reset_key = jax.random.split(jax.random.fold_in(key, START))
        observation, env_state = reset(reset_key, env, params, num_envs)
        state = TrainState(
            agent=agent.init(agent_key, num_envs),
            env_state=env_state,
            observation=observation,
            episode_return=jnp.zeros(num_envs, jnp.float32),
            episode_length=jnp.zeros(num_envs, jnp.int32),
            updates=jnp.zeros((), jnp.int32),
            stopped=jnp.zeros((), bool),
        )
        return jax.tree.map(strong_type, state)

    return make(key, params)


def ends_in_success(env: Any, transition: Transition) -> Array | None:
    """Whether steps arrive at their goal, ``[...]`` bool; None for an environment without known successes.

    The success of an episode is that of its last step, as in Andrychowicz et al. 2017 and Plappert et al. 2018.

    Args:
      env: the environment, with any wrappers.
      transition: leaves ``[...]``.
    """
    success_fn, seen = success_of(env), transition.next_observation
    return None if success_fn is None else jnp.asarray(success_fn(seen.achieved_goal, seen.goal), bool)


def episode_metrics(state: Any, trajectory: Transition, success: Array | None = None) -> tuple[Array, Array, Metrics]:
    """Accumulates returns in a rollout and averages those of the episodes that ended in it, over all devices.

    Args:
      state: anything with ``episode_return`` and ``episode_length``, ``[B]``, of the episodes under way.
      trajectory: ``[T, B]``, from there.
      success: ``[T, B]``, see ``ends_in_success``.

    Returns:
      ``(episode_return [B], episode_length [B], metrics)``: ``episodes`` counts the finished ones, ``episode_return``,
      ``episode_length`` and, if there are goals, ``episode_success`` are their means and NaN where there is none.
    """

    def body(carry: tuple[Array, Array], step: tuple[Array, Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        reward, done = step
        total, length = carry[0] + reward, carry[1] + 1
        return (jnp.where(done, 0.0, total), jnp.where(done, 0, length)), (total, length)

    done = trajectory.terminated | trajectory.truncated
    carry, (totals, lengths) = jax.lax.scan(
        body, (state.episode_return, state.episode_length), (trajectory.reward, done)
    )
    columns = {"episode_return": totals, "episode_length": lengths}
    columns |= {} if success is None else {"episode_success": success}
    sums = [jnp.where(done, x, 0).sum() for x in columns.values()]
    episodes, *sums = across.total([done.sum(), *sums])
    means = (jnp.where(episodes > 0, x / jnp.maximum(episodes, 1), jnp.nan) for x in sums)
    return *carry, {"episodes": episodes, **dict(zip(columns, means, strict=True))}


def of_all_parts(metrics: Metrics) -> Metrics:
    """An agent's metrics averaged over the devices that environments are split over; integers are unchanged."""
    own = {name: x for name, x in metrics.items() if jnp.issubdtype(x.dtype, jnp.floating)}
    return {**metrics, **across.mean(own)}


def train_step(
    key: Array, agent: Agent, env: Any, params: Any, state: TrainState, rollout_length: int
) -> tuple[TrainState, Metrics]:
    """One rollout and one update of a run, or of one device's share of it inside of ``training.parallel``.

    Args:
      key: the key of the run; the update's key is folded from it.
      agent, env, params: who learns, where.
      state: from ``start`` or from the last step.
      rollout_length: T.
    """
    rollout_key, update_key = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, UPDATES), state.updates))
    env_state, observation, trajectory = rollout(
        rollout_key, agent, state.agent, env, params, state.env_state, state.observation, rollout_length
    )
    agent_state, metrics = agent.update(across.own(update_key), state.agent, trajectory)
    success = ends_in_success(env, trajectory)
    episode_return, episode_length, episodes = episode_metrics(state, trajectory, success)
    new = TrainState(
        agent_state, env_state, observation, episode_return, episode_length, state.updates + 1, state.stopped
    )
    return new, {**episodes, **of_all_parts(metrics)}


def advance(
    key: Array,
    agent: Agent,
    env: Any,
    params: Any,
    state: TrainState,
    *,
    num_updates: int,
    rollout_length: int,
    on_update: OnUpdate | None = None,
) -> tuple[TrainState, Metrics]:
    """Makes ``num_updates`` training steps in one scan, for ``train`` and the chunks of long runs.

    Args:
      key: the run's key, the same for every chunk of it.
      agent, env, params: who learns, where.
      state: from ``start`` or from the last chunk.
      num_updates: the number of steps.
      rollout_length: T.
      on_update: called inside the scan with the new state and its metrics; returns ``(metrics, stop)``. Metrics may be
        added to; once ``stop`` is true the state keeps it, and the rest of this call and of later ones does nothing.

    Returns:
      ``(state, metrics)``, the metrics stacked ``[num_updates]``. With ``on_update`` there is one more, ``ran``: True
      for updates that were done, False after a stop, where the other metrics are NaN (0 for integers).
    """

    def body(state: TrainState, _: None) -> tuple[TrainState, Metrics]:
        return train_step(key, agent, env, params, state, rollout_length)

    if on_update is None:
        return jax.lax.scan(body, state, length=num_updates)

    def watched(state: TrainState) -> tuple[TrainState, Metrics]:
        new, metrics = body(state, None)
        metrics, stop = on_update(new, metrics)
        return new._replace(stopped=jnp.asarray(stop, bool)), {**metrics, "ran": jnp.ones((), bool)}

    def skip(state: TrainState) -> tuple[TrainState, Metrics]:
        _, metrics = jax.eval_shape(watched, state)
        fill = lambda x: jnp.full(x.shape, jnp.nan if jnp.issubdtype(x.dtype, jnp.floating) else 0, x.dtype)  # noqa: E731
        return state, jax.tree.map(fill, metrics)

    def guarded(state: TrainState, _: None) -> tuple[TrainState, Metrics]:
        return jax.lax.cond(state.stopped, skip, watched, state)

    return jax.lax.scan(guarded, state, length=num_updates)


def train(
    key: Array,
    agent: Agent,
    env: Any,
    params: Any,
    *,
    num_steps: int,
    num_envs: int = 4,
    rollout_length: int = 128,
    state: TrainState | None = None,
    on_update: OnUpdate | None = None,
) -> tuple[TrainState, Metrics]:
    """Trains an agent: a scan of rollouts and updates.

    For a run that is interrupted and resumed bit for bit use ``fit``, or call ``start`` outside of the ``jit``: equal
    programs give equal bits, and ``train`` with and without ``state`` are two programs, which agree to rounding.

    ``jax.vmap(lambda key: train(key, ppo(spec), env, params, num_steps=500_000))(keys)`` trains a population.

    Args:
      key: the run's key; the same key gives the same run.
      agent: any agent.
      env, params: a gymnax environment and its parameters.
      num_steps: environment steps of this call, all environments together; rounded down to whole updates.
      num_envs: B, the number of environments. Ignored with ``state``, which has its own.
      rollout_length: T, steps of each environment before an update.
      state: the state to continue from, with the same key; None starts a new run.
      on_update: see ``advance``.

    Returns:
      ``(state, metrics)``, the metrics stacked ``[num_updates]``.

    Raises:
      TypeError: ``key`` is not a PRNG key.
      ValueError: a count below 1, or a budget too small for one update.
    """
    check_key(key)
    if state is None:
        count_updates(num_steps, num_envs, rollout_length)
        state = start(key, agent, env, params, num_envs)
    num_updates = count_updates(num_steps, state.episode_return.shape[0], rollout_length)
    return advance(
        key,
        agent,
        env,
        params,
        state,
        num_updates=num_updates,
        rollout_length=rollout_length,
        on_update=on_update,
    )
