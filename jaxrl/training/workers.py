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

OnFailure = Callable[[int, Exception, int], None]

WorkFn = Callable[[int, PyTree, Any], tuple[PyTree, Any, Metrics]]
"""``(worker, state, lane) -> (gradients, lane, metrics)``, in the worker's thread."""


class WorkerFailed(Exception):
    """A worker failed ``MAX_FAILURES`` times in a row; its last error is the cause."""


class Center:
    """The one state. It is immutable and exchanged whole, so what is read is never half old and half new.

    Attributes:
      state: the agent's.
      lanes: what each worker has of its own.
      rows: metrics of each update, in the order in which they were applied.
    """

    def __init__(self, state: PyTree, lanes: Sequence[Any], apply: Callable[..., PyTree], num_updates: int) -> None:
        self.state, self.lanes, self.num_updates = state, list(lanes), num_updates
        self.rows: list[dict[str, Any]] = []
        self.failures: list[tuple[int, Exception]] = []
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
            self.lanes[worker] = lane
            staleness, seconds = len(self.rows) - read_at, time.perf_counter() - self._begin
            self.rows.append({**metrics, "staleness": staleness, "worker": worker, "seconds": seconds})
            self.changed.notify_all()

    def report(self, worker: int, error: Exception) -> None:
        """Of a worker that died."""
        with self.changed:
            self.failures.append((worker, error))
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
        environments that it fails on.
      on_failure: called here with ``(worker, error, failures in a row)`` before it starts again; None logs a warning.
      stop: asked several times a second; True ends the run.

    Raises:
      WorkerFailed: one failed ``MAX_FAILURES`` times in a row.
    """
    in_a_row, in_all, applied = ([0] * len(center.lanes) for _ in range(3))
    threads = [_thread(center, worker, work) for worker in range(len(center.lanes))]
    try:
        while not center.done():
            with center.changed:
                # With a limit: a wait without one can't be interrupted everywhere.
                center.changed.wait_for(lambda: center.failures or center.done(), timeout=0.2)
                failures, center.failures = center.failures, []
            if stop is not None and stop():
                return
            for worker, error in failures:
                now = sum(row["worker"] == worker for row in center.rows)
                in_a_row[worker] = in_a_row[worker] + 1 if now == applied[worker] else 1
                in_all[worker], applied[worker] = in_all[worker] + 1, now
                if in_a_row[worker] == MAX_FAILURES:
                    raise WorkerFailed(
                        f"worker {worker} failed {MAX_FAILURES} times in a row, the last time by "
                        f"{type(error).__name__}: {error}"
                    ) from error
                (on_failure or log_failure)(worker, error, in_a_row[worker])
                center.lanes[worker] = fresh_lane(worker, in_all[worker], center.lanes[worker])
                threads.append(_thread(center, worker, work))
    finally:
        center.stop()
        for thread in threads:
            thread.join()


def _thread(center: Center, worker: int, work: WorkFn) -> threading.Thread:
    def run() -> None:
        try:
            while not center.done():
                state, lane, read_at = center.read(worker)
                grads, lane, metrics = jax.block_until_ready(work(worker, state, lane))
                center.hand_over(worker, grads, lane, metrics, read_at)
        except Exception as error:
            center.report(worker, error)

    # A daemon, so that a second Ctrl-C ends the process even while the device works.
    thread = threading.Thread(target=run, name=f"jaxrl worker {worker}", daemon=True)
    thread.start()
    return thread


def log_failure(worker: int, error: Exception, failures: int) -> None:
    """What is done with a failure where nobody asks for it."""
    logging.getLogger(__name__).warning(
        "worker %d failed (%s: %s), %d time(s) in a row; started again in fresh environments",
        worker,
        type(error).__name__,
        error,
        failures,
    )
