"""Worker threads, which act with a shared state and send their experience to it, and their supervisor."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxrl.types import Metrics, PyTree

MAX_FAILURES = 3
"""Number of successive failures of one worker, without an update in between, that ends a run."""

OnFailure = Callable[[int, BaseException, int], None]

WorkFn = Callable[[int, PyTree, Any], tuple[Any, Any, Metrics]]
"""``(worker, state, own) -> (experience, own, metrics)``, in the worker's thread."""

ApplyFn = Callable[[PyTree, PyTree, Any, int], tuple[PyTree, Metrics]]
"""``(state, state read by the worker, experience, staleness) -> (state, metrics)``; calls do not overlap."""


class WorkerFailed(Exception):
    """A worker failed ``MAX_FAILURES`` times in a row; the cause is its last error."""


class Failures:
    """Numbers of failures of each worker of a run, kept across calls.

    Attributes:
      in_all: since the run began or was resumed.
      in_a_row: since the worker's last update.
    """

    def __init__(self, num_workers: int) -> None:
        self.in_all, self.in_a_row = [0] * num_workers, [0] * num_workers


class ParameterServer:
    """The shared state. It is immutable and replaced as a whole, so that workers never read a mix of old and new.

    Attributes:
      state: state of the agent.
      own: private state of each worker.
      rows: metrics of each update, in the order of the updates.
    """

    def __init__(
        self,
        state: PyTree,
        own: Sequence[Any],
        apply: ApplyFn,
        num_updates: int,
        failures: Failures | None = None,
    ) -> None:
        self.state, self.own, self.num_updates = state, list(own), num_updates
        self.rows: list[dict[str, Any]] = []
        self.failures = Failures(len(self.own)) if failures is None else failures
        self.died: list[tuple[int, BaseException]] = []
        self.changed = threading.Condition()
        self._apply, self._stopping, self._begin = apply, False, time.perf_counter()

    def read(self, worker: int) -> tuple[PyTree, Any, int]:
        """``(state, private state of the worker, updates so far)``."""
        with self.changed:
            return self.state, self.own[worker], len(self.rows)

    def done(self) -> bool:
        """Whether workers should end."""
        return self._stopping or len(self.rows) >= self.num_updates

    def stop(self) -> None:
        """Asks workers to end."""
        with self.changed:
            self._stopping = True
            self.changed.notify_all()

    def hand_over(self, worker: int, read: PyTree, experience: Any, own: Any, metrics: Metrics, read_at: int) -> None:
        """Updates the state with a worker's experience. After the end of the run nothing changes.

        Args:
          worker: number of the worker.
          read: the state that the worker acted with.
          experience: argument of ``apply``.
          own: new private state of the worker.
          metrics: metrics of the worker.
          read_at: number of updates in ``read``.
        """
        with self.changed:
            if self.done():
                return
            staleness = len(self.rows) - read_at
            self.state, of_update = jax.block_until_ready(self._apply(self.state, read, experience, staleness))
            self.own[worker], self.failures.in_a_row[worker] = own, 0
            seconds = time.perf_counter() - self._begin
            self.rows.append({**metrics, **of_update, "staleness": staleness, "worker": worker, "seconds": seconds})
            self.changed.notify_all()

    def report(self, worker: int, error: BaseException) -> None:
        """Records that a worker died."""
        with self.changed:
            self.failures.in_all[worker] += 1
            self.failures.in_a_row[worker] += 1
            self.died.append((worker, error))
            self.changed.notify_all()


def supervise(
    server: ParameterServer,
    work: WorkFn,
    fresh: Callable[[int, int, Any], Any],
    on_failure: OnFailure | None = None,
    stop: Callable[[], bool] | None = None,
) -> None:
    """Starts a thread for each worker, restarts those that die, and returns when all have ended.

    Args:
      server: holds the state and says when the run is done.
      work: function that a worker calls repeatedly.
      fresh: ``(worker, its failures, old own) -> own`` for a restart, because the state of its old environments may be
        the cause of the failure. It runs in the new thread: if it raises, the worker has failed once more.
      on_failure: called in this thread with ``(worker, error, failures in a row)`` before a restart; None logs a
        warning.
      stop: called several times per second; True ends the run.

    Raises:
      WorkerFailed: a worker failed ``MAX_FAILURES`` times in a row.
    """
    counts = server.failures
    threads = [_thread(server, worker, work) for worker in range(len(server.own))]
    try:
        while not server.done():
            with server.changed:
                # With a time limit, because a wait without one can't be interrupted on every platform.
                server.changed.wait_for(lambda: server.died or server.done(), timeout=0.2)
                died, server.died = server.died, []
            if stop is not None and stop():
                return
            for worker, error in died:
                if counts.in_a_row[worker] >= MAX_FAILURES:
                    raise WorkerFailed(
                        f"worker {worker} failed {MAX_FAILURES} times in a row, the last time by "
                        f"{type(error).__name__}: {error}"
                    ) from error
                (on_failure or log_failure)(worker, error, counts.in_a_row[worker])
                threads.append(_thread(server, worker, work, fresh))
    finally:
        server.stop()
        for thread in threads:
            thread.join()


def _thread(
    server: ParameterServer, worker: int, work: WorkFn, fresh: Callable[[int, int, Any], Any] | None = None
) -> threading.Thread:
    """The thread of a worker, which begins with ``fresh`` where it is given."""

    def run() -> None:
        try:
            if fresh is not None:
                server.own[worker] = fresh(worker, server.failures.in_all[worker], server.own[worker])
            while not server.done():
                state, own, read_at = server.read(worker)
                experience, own, metrics = jax.block_until_ready(work(worker, state, own))
                server.hand_over(worker, state, experience, own, metrics, read_at)
        except BaseException as error:  # otherwise the end of the thread would go unnoticed
            server.report(worker, error)

    # A daemon, so that a second Ctrl-C ends the process even while the device works.
    thread = threading.Thread(target=run, name=f"jaxrl worker {worker}", daemon=True)
    thread.start()
    return thread


def log_failure(worker: int, error: BaseException, failures: int) -> None:
    """Logs a failure; the default of ``on_failure``."""
    logging.getLogger(__name__).warning(
        "worker %d failed (%s: %s), %d time(s) in a row; started again in fresh environments",
        worker,
        type(error).__name__,
        error,
        failures,
    )
