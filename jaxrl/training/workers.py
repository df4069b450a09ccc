"""Threads that compute on what they read of one central state and hand gradients back, and who watches over them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxrl.types import Metrics, PyTree

MAX_FAILURES = 3
"""Failures of one worker in a row, without a gradient in between, that end a run."""

OnFailure = Callable[[int, BaseException, int], None]

WorkFn = Callable[[int, PyTree, Any], tuple[PyTree, Any, Metrics]]
"""``(worker, state, lane) -> (gradients, lane, metrics)``, in the worker's thread."""


class WorkerFailed(Exception):
    """A worker failed ``MAX_FAILURES`` times in a row; its last error is the cause."""


class Failures:
    """Of each worker of a run, kept from call to call.

    Attributes:
      in_all: since the run began, or was resumed.
      in_a_row: without a gradient in between.
    """

    def __init__(self, num_workers: int) -> None:
        self.in_all, self.in_a_row = [0] * num_workers, [0] * num_workers


class Center:
    """The one state. It is immutable and exchanged whole, so what is read is never half old and half new.

    Attributes:
      state: the agent's.
      lanes: what each worker has of its own.
      rows: metrics of each update, in the order in which they were applied.
    """

    def __init__(
        self,
        state: PyTree,
        lanes: Sequence[Any],
        apply: Callable[..., PyTree],
        num_updates: int,
        failures: Failures | None = None,
    ) -> None:
        self.state, self.lanes, self.num_updates = state, list(lanes), num_updates
        self.rows: list[dict[str, Any]] = []
        self.failures = Failures(len(self.lanes)) if failures is None else failures
        self.died: list[tuple[int, BaseException]] = []
        self.changed = threading.Condition()
        self._apply, self._stopping, self._begin = apply, False, time.perf_counter()

    def read(self, worker: int) -> tuple[PyTree, Any, int]:
        """``(state, the worker's lane, updates so far)``."""
        with self.changed:
            return self.state, self.lanes[worker], len(self.rows)

    def done(self) -> bool:
        """Whether workers should end."""
        return self._stopping or len(self.rows) >= self.num_updates

    def stop(self) -> None:
        """Asks workers to end."""
        with self.changed:
            self._stopping = True
            self.changed.notify_all()

    def hand_over(self, worker: int, grads: PyTree, lane: Any, metrics: Metrics, read_at: int) -> None:
        """Applies a gradient, unless the run is over: then it is dropped, and the worker's lane stays where it was."""
        with self.changed:
            if self.done():
                return
            self.state = jax.block_until_ready(self._apply(self.state, grads))
            self.lanes[worker], self.failures.in_a_row[worker] = lane, 0
            staleness, seconds = len(self.rows) - read_at, time.perf_counter() - self._begin
            self.rows.append({**metrics, "staleness": staleness, "worker": worker, "seconds": seconds})
            self.changed.notify_all()

    def report(self, worker: int, error: BaseException) -> None:
        """Of a worker that died."""
        with self.changed:
            self.failures.in_all[worker] += 1
            self.failures.in_a_row[worker] += 1
            self.died.append((worker, error))
            self.changed.notify_all()


def supervise(
    center: Center,
    work: WorkFn,
    fresh_lane: Callable[[int, int, Any], Any],
    on_failure: OnFailure | None = None,
    stop: Callable[[], bool] | None = None,
) -> None:
    """Starts a thread for each lane, starts again those that die, and returns when all have ended.

    Args:
      center: says when it is done.
      work: what a worker does again and again.
      fresh_lane: ``(worker, failures of it, old lane) -> lane`` to start again with, for it may be the state of its old
        environments that it fails on. Called in the new thread: if it fails, the worker has failed once more.
      on_failure: called here with ``(worker, error, failures in a row)`` before it starts again; None logs a warning.
      stop: asked several times a second; True ends the run.

    Raises:
      WorkerFailed: one failed ``MAX_FAILURES`` times in a row.
    """
    counts = center.failures
    threads = [_thread(center, worker, work) for worker in range(len(center.lanes))]
    try:
        while not center.done():
            with center.changed:
                # With a limit: a wait without one can't be interrupted everywhere.
                center.changed.wait_for(lambda: center.died or center.done(), timeout=0.2)
                died, center.died = center.died, []
            if stop is not None and stop():
                return
            for worker, error in died:
                if counts.in_a_row[worker] >= MAX_FAILURES:
                    raise WorkerFailed(
                        f"worker {worker} failed {MAX_FAILURES} times in a row, the last time by "
                        f"{type(error).__name__}: {error}"
                    ) from error
                (on_failure or log_failure)(worker, error, counts.in_a_row[worker])
                threads.append(_thread(center, worker, work, fresh_lane))
    finally:
        center.stop()
        for thread in threads:
            thread.join()


def _thread(
    center: Center, worker: int, work: WorkFn, fresh_lane: Callable[[int, int, Any], Any] | None = None
) -> threading.Thread:
    """A worker's, in its lane, or in a fresh one."""

    def run() -> None:
        try:
            if fresh_lane is not None:
                center.lanes[worker] = fresh_lane(worker, center.failures.in_all[worker], center.lanes[worker])
            while not center.done():
                state, lane, read_at = center.read(worker)
                grads, lane, metrics = jax.block_until_ready(work(worker, state, lane))
                center.hand_over(worker, grads, lane, metrics, read_at)
        except BaseException as error:  # whatever ended the thread, nobody else would say so
            center.report(worker, error)

    # A daemon, so that a second Ctrl-C ends the process even while the device works.
    thread = threading.Thread(target=run, name=f"jaxrl worker {worker}", daemon=True)
    thread.start()
    return thread


def log_failure(worker: int, error: BaseException, failures: int) -> None:
    """What is done with a failure where nobody asks for it."""
    logging.getLogger(__name__).warning(
        "worker %d failed (%s: %s), %d time(s) in a row; started again in fresh environments",
        worker,
        type(error).__name__,
        error,
        failures,
    )
