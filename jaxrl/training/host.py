"""Long runs on the host: trains a population in chunks of updates, with Python code in between.

Interruptions do not change a run: with equal ``updates_per_chunk`` results are equal bit for bit on the same device and
versions. Legend of shapes: S members of the population, U updates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl import processes
from jaxrl.arguments import check_count
from jaxrl.training.interrupt import Interrupted, in_a_thread, interrupts_wait
from jaxrl.training.loop import TrainState
from jaxrl.training.program import Runnable

OWN_METRICS = frozenset({"episodes", "episode_return", "episode_length", "episode_success"})
"""Metrics of the loop itself, in which NaN means that no episode ended."""


CALL_SECONDS = 0.25
"""The target duration of one call of the program, if chunks are bounded by seconds."""

CALL_UPDATES = 2048
"""The default of the most updates in such a call."""

MAX_GROWTH = 16.0
"""The largest growth from one call to the next, because the first calls are a poor estimate of the speed."""


class Chunk(NamedTuple):
    """The argument of callbacks between two chunks.

    Attributes:
      updates: the number of updates so far in the whole run, per member.
      env_steps: environment steps so far, per member.
      metrics: ``[S, updates in this chunk]`` each.
      seconds: wall time of this chunk, without compilation and callbacks.
      state: leaves ``[S, ...]``, on the device. The next chunk reuses its buffers, so copy what is needed after the
        callback returns.
    """

    updates: int
    env_steps: int
    metrics: dict[str, np.ndarray]
    seconds: float
    state: TrainState


def _wait(
    outputs: Any,
    interrupted: Callable[[], bool],
    on_interrupt: Callable[[], None] | None,
    patience: float | None = None,
) -> None:
    """Waits for the device in a thread, because signal handlers run in the main thread and not while JAX waits.

    Polling the device would cost up to 5% of the speed on a machine with two cores.

    Raises:
      GivenUp: the device is not done ``patience`` seconds after an interrupt.
    """
    since: float | None = None

    def enough() -> bool:
        nonlocal since
        if since is None and interrupted():
            since = time.monotonic()
            if on_interrupt is not None:
                on_interrupt()
        return since is not None and patience is not None and time.monotonic() - since > patience

    in_a_thread(lambda: jax.block_until_ready(outputs), until=enough)


def updates_done(state: TrainState) -> int:
    """The updates that the members of a population ``[S, ...]`` have done; of those that were not stopped."""
    return int(np.max(processes.fetch(state.updates)))


def _joined(chunks: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([chunk[name] for chunk in chunks], axis=1) for name in (chunks[0] if chunks else ())}


def _advance(
    program: Runnable,
    state: TrainState,
    count: int,
    interrupted: Callable[[], bool],
    on_interrupt: Callable[[], None] | None,
    patience: float | None,
) -> tuple[TrainState, dict[str, np.ndarray], float]:
    """``count`` updates in one call of the program, and the seconds that they took."""
    begin = time.perf_counter()
    state, metrics = program.advance(state, count)
    _wait(metrics, interrupted, on_interrupt, patience)
    rows = {name: row[:, :count] for name, row in processes.fetch(metrics).items()}
    return state, rows, time.perf_counter() - begin


class _Calls:
    """Chooses the number of updates per call, so that a call takes about ``CALL_SECONDS``."""

    def __init__(self, most: int, slower_from: Sequence[int]) -> None:
        self._most, self._size, self._slower_from = most, 1, sorted(slower_from)

    def next(self, done: int, left: int) -> int:
        """The size of the call that starts after ``done`` updates, at most ``left``."""
        later = [update for update in self._slower_from if update > done]
        if len(later) < len(self._slower_from):
            self._slower_from, self._size = later, 1
        return min(self._size, self._most, left, *(update - done for update in later[:1]))

    def took(self, count: int, seconds: float) -> None:
        """Records the duration of a call."""
        if count == self._size or seconds > CALL_SECONDS:
            self._size = max(1, int(count * min(CALL_SECONDS / max(seconds, 1e-9), MAX_GROWTH)))


def fit(
    program: Runnable,
    *,
    num_updates: int,
    updates_per_chunk: int | Callable[[int], int],
    seconds_per_chunk: float | None = None,
    updates_per_call: int = CALL_UPDATES,
    slower_from: Sequence[int] = (),
    state: TrainState | None = None,
    on_chunk: Callable[[Chunk], bool | TrainState | None] | None = None,
    on_interrupt: Callable[[], None] | None = None,
    patience: float | None = None,
    keep_metrics: bool = True,
) -> tuple[TrainState, dict[str, np.ndarray]]:
    """Trains a population chunk by chunk, to ``num_updates`` updates in the whole run.

    Args:
      program: the run.
      num_updates: the number of updates per member, including those that ``state`` has done.
      updates_per_chunk: updates between two callbacks, or ``(updates done) -> updates``; the last chunk may be shorter.
      seconds_per_chunk: ends longer chunks early, so that callbacks and interrupts never wait for long. The results
        stay equal bit for bit. None runs every chunk in one call.
      updates_per_call: the most updates in one call, if chunks are bounded by seconds; runs with equal values are equal
        bit for bit.
      slower_from: updates after which an update may take far longer, such as the end of a warm-up.
      state: the state to continue from, leaves ``[S, ...]``; donated. None starts a new run.
      on_chunk: called after each chunk; True ends the run, and a state replaces that of the chunk.
      on_interrupt: called once when SIGINT arrives during a chunk, for example to print that the chunk will be
        finished.
      patience: seconds that an interrupt waits for the call in progress, which may be one update of many minutes; None
        waits for its end.
      keep_metrics: False returns no metrics, so that memory and the time to stop do not grow with the run.

    Returns:
      ``(state, metrics)``, metrics ``[S, updates done by this call]`` each; empty if nothing was to do. The run is
      shorter if ``on_chunk`` ended it or ``on_update`` stopped every member.

    Raises:
      ValueError: a count below 1, or a state that is beyond ``num_updates``.
      ParallelError: the agent's state differs between devices of the program's mesh; see ``training.parallel``.
      Interrupted: SIGINT came, to any process, and updates are left. Raised after the running chunk and its callback;
        carries the state and the metrics. Another SIGINT before that raises ``KeyboardInterrupt``, and the state is
        lost. In the main thread only.
      GivenUp: the call in progress took longer than ``patience`` after an interrupt, and the state is lost.
    """
    length_at = updates_per_chunk if callable(updates_per_chunk) else lambda done: updates_per_chunk
    for name, count in (("num_updates", num_updates), ("updates_per_chunk", length_at(0))):
        check_count(name, count)
    state = program.start() if state is None else state
    done = updates_done(state)
    if done > num_updates:
        raise ValueError(
            f"num_updates: got {num_updates}, must be at least {done}, the updates that the state has done"
        )
    # The size of a whole chunk or call, however little is left, so that a resumed run uses the same program.
    most = length_at(done) if seconds_per_chunk is None else updates_per_call
    if done < num_updates:
        program.compile(most)
    calls = _Calls(most, slower_from)
    chunks: list[dict[str, np.ndarray]] = []
    with interrupts_wait() as interrupted:
        while done < num_updates and not np.all(processes.fetch(state.stopped)):
            if processes.any_process(interrupted()):
                raise Interrupted(state, _joined(chunks))
            length = min(length_at(done), num_updates - done)
            parts: list[dict[str, np.ndarray]] = []
            begin, seconds, ran = time.perf_counter(), 0.0, 0
            while ran < length and not (seconds_per_chunk and seconds >= seconds_per_chunk):
                count = length if seconds_per_chunk is None else calls.next(done, length - ran)
                state, metrics, took = _advance(program, state, count, interrupted, on_interrupt, patience)
                calls.took(count, processes.greatest(took) if seconds_per_chunk else took)
                parts.append(metrics)
                ran, done = ran + count, done + count
                elapsed = time.perf_counter() - begin
                seconds = processes.greatest(elapsed) if seconds_per_chunk else elapsed
            rows = _joined(parts)
            if keep_metrics:
                chunks.append(rows)
            program.require_agreement(state)
            env_steps = done * program.num_envs * program.rollout_length
            told = None if on_chunk is None else on_chunk(Chunk(done, env_steps, rows, seconds, state))
            if isinstance(told, TrainState):
                state = told
            elif told:
                break
    return state, _joined(chunks)


def first_bad(metrics: Mapping[str, np.ndarray]) -> tuple[int, int, str] | None:
    """The first metric that is not finite.

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
