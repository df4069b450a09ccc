"""``HostEnv``: environments outside JAX in gymnax's protocol, so that loops and agents need no changes.

``reset`` and ``step`` describe one environment, as usual. Under ``vmap`` the calls of the whole batch (seeds times
environments) become one call to the host, by ``custom_vmap`` around one unordered ``io_callback``. The state in JAX is
a token (instance, place, step), which orders the calls and identifies the environment.

Legend of shapes: N environments of a batch.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import math
import queue
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.experimental import io_callback
from numpy.typing import NDArray

from jaxrl.envs.host.vectors import EnvironmentFailed, MakeVector, Stepped, Vector
from jaxrl.types import Array, Box, Discrete, PyTree

MAX_INSTANCES = 4
"""Number of batches that stay open: those of training and of a few evaluations."""

CLOSE_SECONDS = 2.0
"""The most seconds that closing waits for environments that are busy or hang."""


class HostState(NamedTuple):
    """The state of one environment as JAX sees it: int32 each.

    Attributes:
      instance: the batch that the environment belongs to.
      place: index in the batch.
      step: number of steps of the batch so far.
    """

    instance: Array
    place: Array
    step: Array


class HostParams(NamedTuple):
    """Parameters of an environment outside JAX.

    Attributes:
      max_steps_in_episode: steps after which an episode is truncated, unless its own limit is shorter.
    """

    max_steps_in_episode: Any


class Interface(NamedTuple):
    """The observations and actions of an environment, as agents see them.

    Attributes:
      observation: ``jax.ShapeDtypeStruct``, or an ``Observation`` of them.
      action: ``Discrete`` or ``Box``.
      observe: function from the host's observations ``[N, ...]`` to NumPy leaves of that structure.
      act: function from actions ``[N, ...]`` to the host's actions.
      has_success: whether ``info["success"]`` tells that the goal is reached.
      num_observations: number of possible observations, where they are single integers from 0 on; else None.
    """

    observation: Any
    action: Discrete | Box
    observe: Callable[[Any], Any]
    act: Callable[[NDArray[Any]], NDArray[Any]]
    has_success: bool = False
    num_observations: int | None = None


class _Instance:
    """A batch of environments with its number of steps and a thread of its own."""

    def __init__(self, vector: Vector, seeds: list[int]) -> None:
        self.vector, self.seeds, self.step, self.closed = vector, seeds, 0, False
        self.elapsed = np.zeros(len(seeds), np.int64)
        self.lock = threading.Lock()
        """Held while the batch steps, so that of two threads with one state the second is refused."""
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # A daemon thread, so that a hanging environment can't keep the process alive, as a thread of a pool would.
        self._thread = threading.Thread(target=self._work, name="jaxrl steps", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    def call(self, function: Callable[..., Any], *args: Any, timeout: float) -> Any:
        """Calls into the batch in its own thread.

        Raises:
          TimeoutError: there was no answer in time.
          EnvironmentFailed: the batch is closed.
        """
        if self.closed:
            raise EnvironmentFailed(f"the batch of {len(self.seeds)} environments is closed; reset to open another")
        answer: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def run() -> None:
            try:
                answer.set_result(function(*args))
            except BaseException as error:  # raised again by result()
                answer.set_exception(error)

        self._calls.put(run)
        return answer.result(timeout)

    def close(self) -> None:
        """Closes the environments after their current call."""
        self.closed = True
        self._calls.put(self.vector.close)
        self._calls.put(None)

    def wait(self, seconds: float) -> None:
        """Waits until it is closed, ``seconds`` at most."""
        self._thread.join(seconds)


class HostEnv:
    """An environment outside JAX that follows gymnax's protocol.

    It can't be split over devices, stepped by several threads, or searched in as a simulator. Equal keys give equal
    episodes if the environment is deterministic.

    Attributes:
      name: name for ``make``, with the prefix.
      is_host: True; JAX can neither copy nor save the environments' states.
      restarted: number of environments that were recreated after an error.
      reward_fn: reward of a goal; only where it is known.
      success_fn: whether a goal is reached; only where it is known.
    """

    is_host = True

    def __init__(
        self,
        name: str,
        make_vector: MakeVector,
        interface: Interface,
        *,
        max_steps_in_episode: int,
        timeout: float = 60.0,
        reward_fn: Callable[[Array, Array], Array] | None = None,
        success_fn: Callable[[Array, Array], Array] | None = None,
        make_drawn: MakeVector | None = None,
    ) -> None:
        """Describes an environment; the first ``reset`` creates it.

        Args:
          name: name for messages.
          make_vector: function from seeds to a batch.
          interface: observations and actions.
          max_steps_in_episode: the time limit.
          timeout: longest time of one step of the whole batch, in seconds.
          reward_fn: function from achieved goals ``[N, G]`` and goals ``[N, G]`` to rewards ``[N]``, in JAX, for
            hindsight.
          success_fn: the same for bool ``[N]``, whether the goal is reached, for the metric ``episode_success``.
          make_drawn: function from seeds to a batch with pictures; None if every batch has them.
        """
        if reward_fn is not None:
            self.reward_fn = reward_fn
        if success_fn is not None:
            self.success_fn = success_fn
        self.name, self.timeout = name, timeout
        self.interface = interface
        self.default_params = HostParams(max_steps_in_episode)
        self._make_vector = make_vector
        self._make_drawn = make_vector if make_drawn is None else make_drawn
        self._instances: OrderedDict[int, _Instance] = OrderedDict()
        self._numbers = itertools.count()
        self._restarted = 0  # in batches that are closed
        self._lock = threading.Lock()
        """Held while batches are looked up, opened or closed, since several threads may evaluate."""
        self.failure: EnvironmentFailed | None = None
        weakref.finalize(self, _close, self._lock, self._instances)

    def action_space(self, params: PyTree = None) -> Discrete | Box:
        """The actions."""
        return self.interface.action

    def observation_space(self, params: PyTree = None) -> Discrete | None:
        """The observations, where they are single integers."""
        number = self.interface.num_observations
        return None if number is None else Discrete(number)

    def reset(self, key: Array, params: PyTree = None) -> tuple[Any, HostState]:
        """Starts an episode in an environment of a new batch, which is seeded by the keys of all."""
        observation, instance, index = _batched(self._reset, self._seen_at_reset())(jax.random.key_data(key))
        return observation, HostState(instance, index, jnp.zeros_like(instance))

    def step(
        self, key: Array, state: HostState, action: Array, params: PyTree = None
    ) -> tuple[Any, HostState, Array, Array, Array, dict[str, Any]]:
        """Steps the whole batch, and resets the environments whose episode ended."""
        params = self.default_params if params is None else params
        limit = jnp.asarray(params.max_steps_in_episode, jnp.int32)
        outcome = _batched(self._step, self._seen_at_step())(state, action, limit)
        observation, final, reward, discount, terminated, truncated, success, count = outcome
        info = {"final_observation": final, "discount": discount}
        if self.interface.has_success:
            info["success"] = success
        state = HostState(state.instance, state.place, count)
        return observation, state, reward, terminated, truncated, info

    @contextlib.contextmanager
    def drawn(self) -> Iterator[None]:
        """Inside, ``reset`` makes batches that ``render`` can draw, which are often slower."""
        before, self._make_vector = self._make_vector, self._make_drawn
        try:
            yield
        finally:
            self._make_vector = before

    def render(self, state: HostState) -> NDArray[np.uint8]:
        """A picture ``[H, W, 3]`` of an environment in its current state; on the host, not under ``jit``.

        The state comes from a ``reset`` inside of ``with env.drawn()``.
        """
        instance = self._find(int(state.instance), int(state.step))
        return self._call(instance, instance.vector.render, int(state.place))

    def close(self) -> None:
        """Closes all batches, and waits a moment for those that are busy; the end of the process does so too."""
        _close(self._lock, self._instances)

    @property
    def restarted(self) -> int:
        """The number of environments that were recreated after an error, until ``close``."""
        with self._lock:
            return self._restarted + sum(map(_restarted, self._instances.values()))

    def _seen_at_reset(self) -> Any:
        count = jax.ShapeDtypeStruct((), jnp.int32)
        return self.interface.observation, count, count

    def _seen_at_step(self) -> Any:
        flag, count = jax.ShapeDtypeStruct((), bool), jax.ShapeDtypeStruct((), jnp.int32)
        seen = self.interface.observation
        number = jax.ShapeDtypeStruct((), jnp.float32)
        return seen, seen, number, number, flag, flag, flag, count

    # The methods below run on the host, on NumPy arrays [N, ...], and do not call JAX.

    def _reset(self, words: NDArray[np.uint32]) -> tuple[Any, NDArray[Any], NDArray[Any]]:
        seeds = [int(np.random.SeedSequence(row.tolist()).generate_state(1)[0] >> 1) for row in words]
        with self._lock:
            while len(self._instances) >= MAX_INSTANCES:
                oldest = self._instances.popitem(last=False)[1]
                self._restarted += _restarted(oldest)
                oldest.close()
        instance = _Instance(self._guarded(lambda: self._make_vector(seeds)), seeds)
        with self._lock:
            number = next(self._numbers)
            self._instances[number] = instance
        everyone = np.ones(len(seeds), bool)
        observation = self._checked(instance, "observation", self._call(instance, instance.vector.reset, everyone))
        return observation, np.full(len(seeds), number, np.int32), np.arange(len(seeds), dtype=np.int32)

    def _step(self, state: HostState, action: NDArray[Any], limit: NDArray[Any]) -> tuple[Any, ...]:
        number, step = int(state.instance[0]), int(state.step[0])
        with self._find(number, step).lock:
            return self._step_one(self._find(number, step), state, action, limit)

    def _step_one(
        self, instance: _Instance, state: HostState, action: NDArray[Any], limit: NDArray[Any]
    ) -> tuple[Any, ...]:
        size = len(instance.seeds)
        together = (state.instance == state.instance[0]).all() and np.array_equal(state.place, np.arange(size))
        if not together or not (state.step == instance.step).all():
            self._fail(
                f"{self.name}: got {len(state.place)} environments in a step, must be all {size} of one reset, in "
                "their order"
            )
        # A copy, because JAX's own can't be written to, and some environments scale the action in place.
        stepped: Stepped = self._call(instance, instance.vector.step, self.interface.act(np.array(action)))
        instance.step += 1
        instance.elapsed += 1
        final = self._checked(instance, "observation", stepped.observation)
        reward = self._not_nan(instance, "reward", np.asarray(stepped.reward, np.float32).reshape(size))
        terminated = np.asarray(stepped.terminated, bool)
        truncated = np.asarray(stepped.truncated, bool) | (instance.elapsed >= limit) & ~terminated
        done = terminated | truncated
        observation = final
        if done.any():
            fresh = self._checked(instance, "observation", self._call(instance, instance.vector.reset, done), done)
            observation = _where(done, fresh, final)
            instance.elapsed[done] = 0
        success = np.zeros(size, bool) if stepped.success is None else np.asarray(stepped.success, bool)
        weight = np.ones(size) if stepped.discount is None else np.asarray(stepped.discount)
        discount = np.where(terminated, 0.0, weight).astype(np.float32)
        count = np.full(size, instance.step, np.int32)
        return observation, final, reward, discount, terminated, truncated, success, count

    def _find(self, number: int, step: int) -> _Instance:
        """The batch of a state."""
        with self._lock:
            instance = self._instances.get(number)
            if instance is not None:
                self._instances.move_to_end(number)
        if instance is None or instance.step != step:
            reason = "are closed or belong to another process" if instance is None else f"are at step {instance.step}"
            self._fail(
                f"{self.name}: the state is of step {step} of batch {number}, whose environments {reason}; an "
                "environment outside JAX can't be saved or stepped twice, reset it instead"
            )
        assert instance is not None
        return instance

    def _fail(self, message: str) -> None:
        self.failure = EnvironmentFailed(message)
        raise self.failure

    def _guarded(self, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except EnvironmentFailed as error:
            self.failure = error
            raise

    def _call(self, instance: _Instance, function: Callable[..., Any], *args: Any) -> Any:
        """Calls into a batch in its own thread, with a time limit."""

        def call() -> Any:
            try:
                return instance.call(function, *args, timeout=self.timeout)
            except TimeoutError:
                message = f"{self.name}: no answer for {self.timeout:g} s from a batch of {len(instance.seeds)}"
                raise EnvironmentFailed(message) from None

        return self._guarded(call)

    def _checked(self, instance: _Instance, what: str, raw: Any, rows: NDArray[np.bool_] | None = None) -> Any:
        """Observations as agents see them, of the declared shapes and without NaN."""
        leaves, structure = jax.tree.flatten(self.interface.observe(raw))
        wanted = jax.tree.leaves(self.interface.observation)
        size = len(instance.seeds)
        for index, (leaf, want) in enumerate(zip(leaves, wanted, strict=True)):
            if leaf.shape != (size, *want.shape):
                self._fail(f"{self.name}: {what} has shape {leaf.shape[1:]}, the environment declares {want.shape}")
            leaves[index] = self._not_nan(instance, what, leaf.astype(want.dtype), rows)
        return jax.tree.unflatten(structure, leaves)

    def _not_nan(
        self, instance: _Instance, what: str, leaf: NDArray[Any], rows: NDArray[np.bool_] | None = None
    ) -> NDArray[Any]:
        if np.issubdtype(leaf.dtype, np.floating):
            bad = np.isnan(leaf).reshape(len(leaf), -1).any(-1)
            bad = bad if rows is None else bad & rows
            if bad.any():
                index = int(np.flatnonzero(bad)[0])
                seed = instance.seeds[index]
                message = f"{self.name}: the {what} of environment {index} (seed {seed}) is NaN at step {instance.step}"
                self.failure = EnvironmentFailed(message, index, seed)
                raise self.failure
        return leaf


def _restarted(instance: _Instance) -> int:
    return int(getattr(instance.vector, "restarted", 0))


def _where(done: NDArray[np.bool_], fresh: Any, last: Any) -> Any:
    pick = lambda x, y: np.where(done.reshape(-1, *[1] * (x.ndim - 1)), x, y)  # noqa: E731
    return jax.tree.map(pick, fresh, last)


def _batched(function: Callable[..., Any], result: Any, ndim: int = 0) -> Callable[..., Any]:
    """A host function of rows ``[N, ...]`` as a JAX function of one row, or of rows with ``ndim`` leading axes.

    Args:
      function: host function from NumPy leaves ``[N, ...]`` to NumPy leaves ``[N, ...]``.
      result: ``jax.ShapeDtypeStruct`` leaves of one row of its result.
      ndim: number of leading axes of every argument.
    """

    @custom_vmap
    def call(*args: Any) -> Any:
        axes = jax.tree.leaves(args)[0].shape[:ndim]
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((*axes, *x.shape), x.dtype), result)

        def on_host(*args: Any) -> Any:
            rows = [np.asarray(x).reshape(math.prod(axes), *x.shape[ndim:]) for x in jax.tree.leaves(args)]
            out = function(*jax.tree.unflatten(jax.tree.structure(args), rows))
            return jax.tree.map(lambda x, shape: np.asarray(x, shape.dtype).reshape(shape.shape), out, shapes)

        return io_callback(on_host, shapes, *args)

    @call.def_vmap
    def rule(axis_size: int, in_batched: Any, *args: Any) -> Any:
        spread = lambda x, batched: x if batched else jnp.broadcast_to(x, (axis_size, *x.shape))  # noqa: E731
        args = jax.tree.map(spread, args, tuple(in_batched))
        return _batched(function, result, ndim + 1)(*args), jax.tree.map(lambda x: True, result)

    return call


def _close(lock: threading.Lock, instances: OrderedDict[int, _Instance]) -> None:
    """Closes batches, and waits ``CLOSE_SECONDS`` at most for those that are busy."""
    with lock:
        closing = list(instances.values())
        instances.clear()
    for instance in closing:
        instance.close()
    until = time.monotonic() + CLOSE_SECONDS
    for instance in closing:
        instance.wait(max(0.0, until - time.monotonic()))
