"""Long runs on the host: a population trained chunk by chunk, with Python in between.

Where a run was cut leaves no trace in its numbers: with equal ``updates_per_chunk`` they are equal bit for bit, on the
same device and versions. Legend of shapes: S members of the population, U updates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl import processes
from jaxrl.arguments import check_count
from jaxrl.training.interrupt import Interrupted, interrupts_wait
from jaxrl.training.loop import TrainState
from jaxrl.training.program import Runnable

OWN_METRICS = frozenset({"episodes", "episode_return", "episode_length"})
"""Metrics of the loop itself, where NaN says that no episode ended."""


class Chunk(NamedTuple):
    """What a callback between two chunks is shown.

    Attributes:
      updates: done so far in the whole run, by each member.
      env_steps: environment steps so far, of each member.
      metrics: ``[S, updates in this chunk]`` each.
      seconds: wall time of this chunk, without compilation and callbacks.
      state: leaves ``[S, ...]``, on the device; the next chunk is given its buffers, so it is valid until the callback
        returns, and what should outlive it has to be copied.
    """

    updates: int
    env_steps: int
    metrics: dict[str, np.ndarray]
    seconds: float
    state: TrainState


def _wait(outputs: Any, interrupted: Callable[[], bool], on_interrupt: Callable[[], None] | None) -> None:
    """Waits for the device in a thread: signal handlers run in the main one, and not while JAX itself waits.

    To ask the device again and again would cost up to 5% of the speed on a machine of two cores.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = pool.submit(jax.block_until_ready, outputs)
        while wait([waiting], timeout=0.1).not_done:
            if on_interrupt is not None and interrupted():
                on_interrupt()
                on_interrupt = None
        waiting.result()


def updates_done(state: TrainState) -> int:
    """The updates that the members of a population ``[S, ...]`` have done; of those that were not stopped."""
    return int(np.max(processes.fetch(state.updates)))


def _joined(chunks: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([chunk[name] for chunk in chunks], axis=1) for name in (chunks[0] if chunks else ())}


def fit(
    program: Runnable,
    *,
    num_updates: int,
    updates_per_chunk: int,
    state: TrainState | None = None,
    on_chunk: Callable[[Chunk], bool | None] | None = None,
    on_interrupt: Callable[[], None] | None = None,
) -> tuple[TrainState, dict[str, np.ndarray]]:
    """Trains a population chunk by chunk, to ``num_updates`` updates in the whole run.

    Args:
      program: the run.
      num_updates: to be done by each member, those that ``state`` has done included.
      updates_per_chunk: updates between two callbacks; the last chunk may be shorter.
      state: where to go on from, leaves ``[S, ...]``; donated. None starts afresh.
      on_chunk: called after each chunk; True ends the run.
      on_interrupt: called once when SIGINT comes while a chunk runs, to say that the chunk is waited for.

    Returns:
      ``(state, metrics)``, metrics ``[S, updates done by this call]`` each; none where there was nothing to do. The run
      is shorter where ``on_chunk`` ended it, or ``on_update`` stopped every member.

    Raises:
      ValueError: a count below 1, or a state that is beyond ``num_updates``.
      ParallelError: the agent's state came apart on the devices of the program's mesh; see ``training.parallel``.
      Interrupted: SIGINT came, to any process, and updates are left. Raised after the running chunk and its callback;
        carries the state and the metrics. Another SIGINT before that raises ``KeyboardInterrupt``, and the state is
        lost (a process still ends only when the device has done its chunk). In the main thread only.
    """
    for name, count in (("num_updates", num_updates), ("updates_per_chunk", updates_per_chunk)):
        check_count(name, count)
    state = program.start() if state is None else state
    done = updates_done(state)
    if done > num_updates:
        raise ValueError(f"num_updates: got {num_updates}, the state has done {done} already")
    if done < num_updates:
        # Of the whole chunk, however little is left: the program of a resumed run is that of the unbroken one.
        program.compile(updates_per_chunk)
    chunks: list[dict[str, np.ndarray]] = []
    with interrupts_wait() as interrupted:
        while done < num_updates and not np.all(processes.fetch(state.stopped)):
            if processes.anywhere(interrupted()):
                raise Interrupted(state, _joined(chunks))
            begin = time.perf_counter()
            count = min(updates_per_chunk, num_updates - done)
            state, metrics = program.advance(state, count)
            _wait(metrics, interrupted, on_interrupt)
            chunks.append(processes.fetch(metrics))
            program.require_agreement(state)
            seconds = time.perf_counter() - begin
            done += count
            env_steps = done * program.num_envs * program.rollout_length
            if on_chunk is not None and on_chunk(Chunk(done, env_steps, chunks[-1], seconds, state)):
                break
    return state, _joined(chunks)


def first_bad(metrics: Mapping[str, np.ndarray]) -> tuple[int, int, str] | None:
    """Where training broke: the first value that is not finite.

    Args:
      metrics: ``[S, U]`` each, of a chunk. The loop's own (``OWN_METRICS``) and updates after a stop are passed over.

    Returns:
      ``(member, update, metric)``, the earliest update and its first member; None where all is finite.
    """
    ran = metrics.get("ran", True)
    found: list[tuple[int, int, str]] = []
    for name, values in metrics.items():
        if name not in OWN_METRICS and np.issubdtype(values.dtype, np.floating):
            bad = np.argwhere((~np.isfinite(values) & ran).T)
            if bad.size:
                found.append((int(bad[0, 0]), int(bad[0, 1]), name))
    if not found:
        return None
    update, member, name = min(found)
    return member, update, name
