"""A population's run as a few compiled programs that the host calls."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxrl import processes
from jaxrl.arguments import check_count
from jaxrl.training import loop, parallel
from jaxrl.training.interrupt import in_a_thread
from jaxrl.training.loop import OnUpdate, TrainState
from jaxrl.types import Agent, Array, Metrics


def capacity(num_updates: int) -> int:
    """The most updates of a program for chunks of ``num_updates``: a power of two, at least 64.

    The actual number is an argument of the program, so a remainder needs no second compilation and interruptions do not
    change the program: XLA may round differently in programs that differ only in a length.
    """
    return max(64, 1 << (num_updates - 1).bit_length())


class Runnable(Protocol):
    """A ``Program`` or ``Asynchronous`` threads, for ``fit`` to run. ``Program`` documents each method."""

    num_envs: int
    rollout_length: int

    def start(self) -> TrainState: ...

    def abstract_state(self) -> TrainState: ...

    def state_bytes(self, part: Callable[[TrainState], Any] = ...) -> int: ...

    def require_agreement(self, state: TrainState) -> None: ...

    def compile(self, num_updates: int) -> float: ...

    def memory_bytes(self, num_updates: int) -> int | None: ...

    def advance(self, state: TrainState, num_updates: int) -> tuple[TrainState, Mapping[str, Any]]: ...


class Program:
    """The compiled programs of a population's run. The constructor neither computes nor compiles."""

    def __init__(
        self,
        make_agent: Callable[..., Agent],
        env: Any,
        params: Any,
        keys: Array,
        *,
        hyper: Mapping[str, Any] | None = None,
        num_envs: int,
        rollout_length: int,
        on_update: OnUpdate | None = None,
        mesh: Mesh | None = None,
    ) -> None:
        """Describes a run.

        Args:
          make_agent: ``make_agent(**hyper of one member) -> Agent``; called while tracing, where they are tracers.
          env: a gymnax environment.
          params: its parameters.
          keys: ``[S]`` typed PRNG keys, one per member, as ``train`` takes them.
          hyper: name -> ``[S]``, the hyper-parameters that differ between members; None for none.
          num_envs: B.
          rollout_length: T; 0 takes no environment steps, and updates get an empty trajectory.
          on_update: see ``loop.advance``; it sees one member.
          mesh: from ``parallel.make_mesh``, to split members and environments over; None for one device.

        Raises:
          ValueError: keys that are no ``[S]`` typed keys, hyper-parameters of another length, a count below 1 or one
            that the mesh does not divide.
        """
        if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) or keys.ndim != 1 or not keys.size:
            raise ValueError(
                f"keys: got {keys.dtype}{list(keys.shape)}, must be typed keys [S], as from "
                "jax.random.split(jax.random.key(0), S)"
            )
        self._hyper = {name: jnp.asarray(values) for name, values in (hyper or {}).items()}
        for name, values in self._hyper.items():
            if values.shape != keys.shape:
                raise ValueError(
                    f"hyper: {name!r} has shape {list(values.shape)}, must be {list(keys.shape)}, a value for each key"
                )
        check_count("num_envs", num_envs)
        check_count("rollout_length", rollout_length, least=0)
        if mesh is not None:
            parallel.check_split(mesh, num_envs, keys.shape[0])
        self.num_envs, self.rollout_length, self.mesh = num_envs, rollout_length, mesh
        self._make_agent, self._env, self._params, self._keys = make_agent, env, params, keys
        self._on_update = on_update
        self._compiled: dict[int, Any] = {}

    @cached_property
    def specs(self) -> TrainState:
        """The axes of the mesh over which each leaf of the population's state is split."""
        assert self.mesh is not None
        key, hyper = jax.tree.map(lambda x: x[0], (self._keys, self._hyper))
        start = lambda count: self._start_one(key, hyper, count)  # noqa: E731
        return parallel.of_members(parallel.state_specs(start, self.num_envs, self.mesh))

    @cached_property
    def _members(self) -> tuple[Array, dict[str, Array]]:
        """Keys and hyper-parameters on the devices of their members."""
        if self.mesh is None:
            return self._keys, self._hyper
        where = NamedSharding(self.mesh, P(parallel.SEEDS))
        return jax.tree.map(lambda x: processes.place(x, where), (self._keys, self._hyper))

    @cached_property
    def _start(self) -> Any:
        shardings = None if self.mesh is None else parallel.shardings(self.mesh, self.specs)
        return jax.jit(jax.vmap(partial(self._start_one, num_envs=self.num_envs)), out_shardings=shardings)

    @cached_property
    def _compiled_start(self) -> Any:
        return in_a_thread(self._start.lower(*self._members).compile)

    @cached_property
    def _disagreeing(self) -> Any:
        assert self.mesh is not None
        return parallel.disagreeing(self.mesh, self.specs)

    def _start_one(self, key: Array, hyper: dict[str, Array], num_envs: int) -> TrainState:
        return loop.start(key, self._make_agent(**hyper), self._env, self._params, num_envs)

    def _advance_one(
        self, key: Array, hyper: dict[str, Array], state: TrainState, num_updates: Array, length: int
    ) -> tuple[TrainState, Metrics]:
        """Makes ``num_updates <= length`` steps, a number that may be traced; metrics ``[length]``, zero-padded."""
        agent = self._make_agent(**hyper)

        def step(state: TrainState) -> tuple[TrainState, Metrics]:
            return loop.advance(
                key,
                agent,
                self._env,
                self._params,
                state,
                num_updates=1,
                rollout_length=self.rollout_length,
                on_update=self._on_update,
            )

        def body(i: Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, row = step(carry[0])
            write = lambda rows, row: jax.lax.dynamic_update_slice_in_dim(rows, row, i, 0)  # noqa: E731
            return state, jax.tree.map(write, carry[1], row)

        _, row = jax.eval_shape(step, state)
        rows = jax.tree.map(lambda x: jnp.zeros((length, *x.shape[1:]), x.dtype), row)
        return jax.lax.fori_loop(0, num_updates, body, (state, rows))

    def _advance_all(
        self, keys: Array, hyper: dict[str, Array], state: TrainState, num_updates: Array, length: int
    ) -> tuple[TrainState, Metrics]:
        if keys.shape[0] == 1:  # a batch axis of one would cost a sixth of the speed
            key, values, alone = jax.tree.map(lambda x: x[0], (keys, hyper, state))
            return jax.tree.map(lambda x: x[None], self._advance_one(key, values, alone, num_updates, length))
        return jax.vmap(partial(self._advance_one, length=length), (0, 0, 0, None))(keys, hyper, state, num_updates)

    def _split_all(self, length: int) -> Callable[..., Any]:
        """``_advance_all`` for chunks of ``length``, on each device's share if there is a mesh."""
        run = partial(self._advance_all, length=length)
        if self.mesh is None:
            return run
        members = P(parallel.SEEDS)
        return parallel.split(run, self.mesh, (members, members, self.specs, P()), (self.specs, members))

    def start(self) -> TrainState:
        """The first state of the population, leaves ``[S, ...]``, none of which share a buffer."""
        started: TrainState = self._compiled_start(*self._members)
        return started

    def abstract_state(self) -> TrainState:
        """Shapes, dtypes and shardings of the population's state, for ``Checkpoints.restore``; nothing is allocated."""
        state = jax.eval_shape(self._start, self._keys, self._hyper)
        if self.mesh is None:
            return state
        place = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)  # noqa: E731
        return jax.tree.map(place, state, parallel.shardings(self.mesh, self.specs))

    def state_bytes(self, part: Callable[[TrainState], Any] = lambda state: state) -> int:
        """Exact bytes of the population's state, or of a part of it, on one device; nothing is allocated."""
        leaves = jax.tree.leaves(part(self.abstract_state()))
        shapes = [leaf.shape if self.mesh is None else leaf.sharding.shard_shape(leaf.shape) for leaf in leaves]
        return sum(math.prod(shape) * leaf.dtype.itemsize for shape, leaf in zip(shapes, leaves, strict=True))

    def require_agreement(self, state: TrainState) -> None:
        """Raises ``ParallelError`` if replicated leaves differ between devices of a mesh."""
        if self.mesh is not None and self.mesh.size > 1:
            parallel.require_agreement(state, self._disagreeing(state))

    def compile(self, num_updates: int) -> float:
        """Compiles ``advance`` for ``num_updates`` per call; returns the seconds it took, 0 if compiled before."""
        check_count("num_updates", num_updates)
        length = capacity(num_updates)
        if length in self._compiled:
            return 0.0
        begin = time.perf_counter()
        program = jax.jit(self._split_all(length), donate_argnums=2)
        lowered = program.lower(*self._members, self.abstract_state(), np.int32(0))
        self._compiled[length] = in_a_thread(lowered.compile)
        return time.perf_counter() - begin

    def memory_bytes(self, num_updates: int) -> int | None:
        """The compiler's estimate of the peak of a device's memory in ``advance``; None if unknown."""
        self.compile(num_updates)
        stats = self._compiled[capacity(num_updates)].memory_analysis()
        if stats is None:
            return None
        whole = stats.argument_size_in_bytes + stats.output_size_in_bytes + stats.temp_size_in_bytes
        return int(whole - stats.alias_size_in_bytes)

    def advance(self, state: TrainState, num_updates: int) -> tuple[TrainState, dict[str, Array]]:
        """Makes ``num_updates`` updates of every member, by the smallest compiled program that is long enough.

        Args:
          state: leaves ``[S, ...]``; donated, so it is gone afterwards.
          num_updates: compiled on demand if no program is long enough.

        Returns:
          ``(state, metrics)``, metrics ``[S, num_updates or more]`` each, of which the first ``num_updates`` count,
          since slicing them here would compile once per length.
        """
        if not any(length >= num_updates for length in self._compiled):
            self.compile(num_updates)
        length = min(length for length in self._compiled if length >= num_updates)
        state, metrics = self._compiled[length](*self._members, state, np.int32(num_updates))
        return state, metrics
