"""Asynchronous training: threads act in their own environments and update one shared state.

A worker reads the state, takes a rollout, and passes its trajectory to the parameter server. There the agent's
``update`` computes the change of the parameters that the worker had read, with the current state of the optimizer, and
the change is added to the current parameters (Mnih et al. 2016, algorithm S3, with shared statistics of the optimizer).
The staleness is the number of updates in between. Updates are sequential, rollouts are parallel. Any agent without
per-environment state can be trained. Everything but the parameters is current: with normalised observations a stale
update uses newer statistics than those that acted, and TRPO's bound on the KL divergence holds around the parameters
that were read. Results depend on the timing of threads, so a run can't be repeated; ``a3c(delay=...)`` can.

Legend of shapes: W workers, B environments per worker, T time, U updates.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_leaves_with_path

from jaxrl.arguments import check_count, check_key
from jaxrl.rollout import reset, rollout
from jaxrl.training import loop
from jaxrl.training.interrupt import Interrupted, in_a_thread, interrupts_wait
from jaxrl.training.loop import START, UPDATES, TrainState, count_updates, strong_type
from jaxrl.training.workers import Failures, OnFailure, ParameterServer, supervise
from jaxrl.types import Agent, Array, Metrics, PyTree, Transition

Experience = tuple[Array, Transition]
"""The key of an update, and the trajectory ``[T, B]`` to learn from."""

WORKER, RESTART = 0xA3C, 0x2E5
"""Folded into the run's key for every worker but the first, and into a worker's key after a failure."""


class Worker(NamedTuple):
    """The state of a worker.

    Attributes:
      env_state, observation: those of its environments, ``[B, ...]``.
      episode_return, episode_length: ``[B]``, those of the current episodes.
      rollouts: int32, the number of rollouts learned from; rollout i uses ``fold_in(worker_key, i)``.
    """

    env_state: PyTree
    observation: Any
    episode_return: Array
    episode_length: Array
    rollouts: Array


class Asynchronous:
    """A run of one agent with W workers, which ``fit`` takes instead of a ``Program``.

    The state is a ``TrainState`` with a leading axis of 1, like a population of one: ``env_state``, ``observation``,
    ``episode_return`` and ``episode_length`` are ``[1, W, B, ...]``. It does not contain each worker's number of
    rollouts: after a stop a worker continues with other random numbers, derived from the number of updates.
    """

    def __init__(
        self,
        agent: Agent,
        env: Any,
        params: Any,
        key: Array,
        *,
        num_workers: int,
        num_envs: int,
        rollout_length: int,
        on_failure: OnFailure | None = None,
    ) -> None:
        """Sets up a run; nothing is computed.

        Args:
          agent: its state has a field ``params`` and no content in ``per_env``.
          env, params: a gymnax environment and its parameters.
          key: the key of the run.
          num_workers: W, the number of threads.
          num_envs: B, environments per worker.
          rollout_length: T.
          on_failure: called in the calling thread with ``(worker, error, failures in a row)`` before a failed worker is
            restarted in new environments; None logs a warning.

        Raises:
          TypeError: the agent's state has no ``params``.
          ValueError: a count is less than 1, or the agent has per-environment state.
        """
        check_key(key)
        for name, count in (("workers", num_workers), ("num_envs", num_envs), ("rollout_length", rollout_length)):
            check_count(name, count)
        self.num_workers, self.num_envs, self.rollout_length = num_workers, num_envs, rollout_length
        self._agent, self._env, self._params, self._key = agent, env, params, key
        check_shareable(jax.eval_shape(lambda key: agent.init(key, num_envs), key))
        self._on_failure, self._failures = on_failure, Failures(num_workers)
        self._start, self._fresh = jax.jit(self._start_all), jax.jit(self._fresh_worker)
        # Not donated, because workers keep the state that they read.
        self._work, self._update, self._late = (
            jax.jit(self._work_once),
            jax.jit(agent.update),
            jax.jit(self._late_update),
        )
        self._compiled: tuple[Any, Any, Any] | None = None

    def _worker_keys(self, key: Array) -> list[Array]:
        """One key per worker; the first has the run's key, so that one worker draws the same numbers as ``train``."""
        return [key, *(jax.random.fold_in(key, WORKER + w) for w in range(1, self.num_workers))]

    def _fresh_worker(self, key: Array, rollouts: Array) -> Worker:
        observation, env_state = reset(key, self._env, self._params, self.num_envs)
        zeros = jnp.zeros(self.num_envs, jnp.float32)
        worker = Worker(env_state, observation, zeros, zeros.astype(jnp.int32), rollouts)
        return jax.tree.map(strong_type, worker)

    def _start_all(self, key: Array) -> TrainState:
        keys = [jax.random.split(jax.random.fold_in(each, START)) for each in self._worker_keys(key)]
        zero = jnp.zeros((), jnp.int32)
        workers = [self._fresh_worker(each[1], zero) for each in keys]
        agent = self._agent.init(keys[0][0], self.num_envs)
        return jax.tree.map(strong_type, _joined(agent, workers, jnp.zeros((1,), jnp.int32), jnp.zeros((1,), bool)))

    def _work_once(self, key: Array, state: PyTree, worker: Worker) -> tuple[Experience, Worker, Metrics]:
        """Takes one rollout with the keys of ``train_step``."""
        folded = jax.random.fold_in(jax.random.fold_in(key, UPDATES), worker.rollouts)
        rollout_key, update_key = jax.random.split(folded)
        env_state, observation, trajectory = rollout(
            rollout_key,
            self._agent,
            state,
            self._env,
            self._params,
            worker.env_state,
            worker.observation,
            self.rollout_length,
        )
        success = loop.ends_in_success(self._env, trajectory)
        episode_return, episode_length, episodes = loop.episode_metrics(worker, trajectory, success)
        new = Worker(env_state, observation, episode_return, episode_length, worker.rollouts + 1)
        return (update_key, trajectory), jax.tree.map(strong_type, new), episodes

    def _late_update(self, key: Array, state: PyTree, read: PyTree, trajectory: Transition) -> tuple[PyTree, Metrics]:
        """Adds the change that ``update`` makes at the parameters that were read to the current parameters."""
        new, metrics = self._agent.update(key, state._replace(params=read), trajectory)
        params = jax.tree.map(lambda now, old, new: now + (new - old), state.params, read, new.params)
        return new._replace(params=params), metrics

    def start(self) -> TrainState:
        """The first state."""
        started: TrainState = in_a_thread(self._start.lower(self._key).compile)(self._key)
        return started

    def abstract_state(self) -> TrainState:
        """Shapes and dtypes of the state; nothing is allocated."""
        return jax.eval_shape(self._start, self._key)

    def state_bytes(self, part: Callable[[TrainState], Any] = lambda state: state) -> int:
        """Exact bytes of the state, or of a part of it."""
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(part(self.abstract_state())))

    def require_agreement(self, state: TrainState) -> None:
        """Does nothing, since there is one state."""

    def compile(self, num_updates: int) -> float:
        """Compiles what workers run, the same for any ``num_updates``; returns the seconds it took."""
        del num_updates
        if self._compiled is not None:
            return 0.0
        begin = time.perf_counter()
        shapes = self.abstract_state()
        state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), shapes.agent)
        worker = jax.eval_shape(self._fresh, self._key, jnp.zeros((), jnp.int32))
        (key, trajectory), _, _ = jax.eval_shape(self._work, self._key, state, worker)
        self._compiled = (
            in_a_thread(self._work.lower(self._key, state, worker).compile),
            in_a_thread(self._update.lower(key, state, trajectory).compile),
            in_a_thread(self._late.lower(key, state, state.params, trajectory).compile),
        )
        return time.perf_counter() - begin

    def memory_bytes(self, num_updates: int) -> int | None:
        """The compiler's estimate of the peak of memory while all workers run; None if unknown."""
        self.compile(num_updates)
        assert self._compiled is not None
        stats = self._compiled[0].memory_analysis()
        if stats is None:
            return None
        each = stats.argument_size_in_bytes + stats.output_size_in_bytes + stats.temp_size_in_bytes
        return int(self.num_workers * each)

    def advance(
        self, state: TrainState, num_updates: int, stop: Callable[[], bool] | None = None
    ) -> tuple[TrainState, dict[str, np.ndarray]]:
        """Makes ``num_updates`` updates; all threads have ended when it returns or raises.

        Args:
          state: the result of ``start`` or of the last call.
          num_updates: the number of updates by all workers together.
          stop: called several times per second; True ends the call early.

        Returns:
          ``(state, metrics)``, with metrics ``[1, updates]``: those of the agent, ``staleness``, ``staleness_max`` (the
          maximum in this call), ``worker``, and ``seconds`` since the call began; empty without an update.

        Raises:
          WorkerFailed: a worker failed repeatedly.
          KeyboardInterrupt: the main thread was interrupted; unfinished rollouts are dropped.
        """
        self.compile(num_updates)
        assert self._compiled is not None
        work, update, late = self._compiled
        keys, first = self._worker_keys(self._key), jax.tree.map(lambda x: x[0], state)
        workers = [_worker_of(first, number) for number in range(self.num_workers)]

        def apply(state: PyTree, read: PyTree, experience: Experience, staleness: int) -> tuple[PyTree, Metrics]:
            key, trajectory = experience
            return late(key, state, read.params, trajectory) if staleness else update(key, state, trajectory)

        def fresh(worker: int, failures: int, old: Worker) -> Worker:
            # The number of rollouts too, because failures are counted from 0 again after a resume.
            key = jax.random.fold_in(jax.random.fold_in(keys[worker], RESTART), failures)
            return self._fresh(jax.random.fold_in(key, old.rollouts), old.rollouts)

        server = ParameterServer(first.agent, workers, apply, num_updates, self._failures)
        supervise(server, lambda w, *args: work(keys[w], *args), fresh, self._on_failure, stop)
        new = _joined(server.state, server.own, state.updates + len(server.rows), state.stopped)
        return new, _metrics(jax.device_get(server.rows))


def check_shareable(state: PyTree) -> None:
    """Refuses the state of an agent that several workers can't share.

    Raises:
      TypeError: it has no field ``params``.
      ValueError: it has per-environment state: a replay, running returns, or a reward model's.
    """
    if not hasattr(state, "params") or not hasattr(state, "_replace"):
        raise TypeError(f"agent: workers share parameters; its state {type(state).__name__} has no field params")
    names = (keystr(path, simple=True, separator=".") for path, _ in tree_leaves_with_path(state))
    if any("per_env" in name.split(".") for name in names):
        raise ValueError(
            "agent: its state keeps something for each environment (per_env: a replay, the running returns of "
            "normalize_reward, or those of a reward model such as rnd), which workers can't share; take an on-policy "
            "recipe such as a2c without it"
        )


def _joined(agent: PyTree, workers: list[Worker], updates: Array, stopped: Array) -> TrainState:
    """The state of a run, with its leading axis of 1."""
    stacked = jax.tree.map(lambda *x: jnp.stack(x)[None], *workers)
    return TrainState(
        agent=jax.tree.map(lambda x: x[None], agent),
        env_state=stacked.env_state,
        observation=stacked.observation,
        episode_return=stacked.episode_return,
        episode_length=stacked.episode_length,
        updates=updates,
        stopped=stopped,
    )


def _worker_of(state: TrainState, worker: int) -> Worker:
    """The state from which a worker continues, from a state without its leading axis."""
    own = (state.env_state, state.observation, state.episode_return, state.episode_length)
    env_state, observation, episode_return, episode_length = jax.tree.map(lambda x: x[worker], own)
    return Worker(env_state, observation, episode_return, episode_length, state.updates)


def _metrics(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    metrics = {name: np.asarray([row[name] for row in rows])[None] for name in (rows[0] if rows else ())}
    if rows:
        metrics["staleness_max"] = np.full_like(metrics["staleness"], metrics["staleness"].max())
    return metrics


def train(
    key: Array,
    agent: Agent,
    env: Any,
    params: Any,
    *,
    num_steps: int,
    num_workers: int,
    num_envs: int = 4,
    rollout_length: int = 8,
    on_failure: OnFailure | None = None,
    stop: Callable[[], bool] | None = None,
) -> tuple[TrainState, dict[str, np.ndarray]]:
    """Trains one agent with several threads: ``train(key, agent, env, params, num_steps=..., num_workers=4)``.

    Args:
      key: the key of the run; one worker gives the same result as ``training.train`` with this key.
      agent, env, params, num_workers, num_envs, rollout_length, on_failure: see ``Asynchronous``.
      num_steps: environment steps of all workers together, rounded down to whole updates.
      stop: called several times per second; True ends the run early.

    Returns:
      ``(state, metrics)`` without the leading axis: ``state.agent`` is the agent's state, and metrics are ``[U]``, see
      ``Asynchronous.advance``.

    Raises:
      ValueError: a count is less than 1, or the budget is too small for one update.
      WorkerFailed: a worker failed repeatedly.
      Interrupted: SIGINT or SIGTERM arrived in the main thread; it has the state and the metrics.
    """
    num_updates = count_updates(num_steps, num_envs, rollout_length)
    run = Asynchronous(
        agent,
        env,
        params,
        key,
        num_workers=num_workers,
        num_envs=num_envs,
        rollout_length=rollout_length,
        on_failure=on_failure,
    )
    run.compile(num_updates)
    with interrupts_wait() as interrupted:
        state, metrics = run.advance(run.start(), num_updates, lambda: interrupted() or (stop is not None and stop()))
    state, metrics = jax.tree.map(lambda x: x[0], (state, metrics))
    if interrupted() and int(state.updates) < num_updates:
        raise Interrupted(state, metrics)
    return state, metrics
