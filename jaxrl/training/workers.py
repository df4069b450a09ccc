"""Threads that act by what they read of one shared state and hand their experience back, and their supervisor."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxrl.types import Metrics, PyTree

MAX_FAILURES = 3
"""Failures of one worker in a row, without an update in between, that end a run."""

OnFailure = Callable[[int, BaseException, int], None]

WorkFn = Callable[[int, PyTree, Any], tuple[Any, Any, Metrics]]
"""``(worker, state, own) -> (experience, own, metrics)``, in the worker's thread."""

ApplyFn = Callable[[PyTree, PyTree, Any, int], tuple[PyTree, Metrics]]
"""``(state, state that was read, experience, staleness) -> (state, metrics)``, one call at a time."""


class WorkerFailed(Exception):
    """A worker failed ``MAX_FAILURES`` times in a row; its last error is the cause."""


class Failures:
    """Counts of failures of each worker of a run, kept from call to call.

    Attributes:
      in_all: since the run began, or was resumed.
      in_a_row: without an update in between.
    """

    def __init__(self, num_workers: int) -> None:
        self.in_all, self.in_a_row = [0] * num_workers, [0] * num_workers


class ParameterServer:
    """The shared state. It is immutable and exchanged whole, so what is read is never half old and half new.

    Attributes:
      state: the agent's.
      own: what each worker keeps to itself.
      rows: metrics of each update, in the order in which they were applied.
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
        """``(state, what the worker keeps to itself, updates so far)``."""
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
        """Updates the state by a worker's experience. Once the run is over it is dropped, and ``own`` stays as it was.

        Args:
          worker: its number.
          read: the state that the worker acted by.
          experience: for ``apply``.
          own: what the worker keeps to itself from now on.
          metrics: of the worker.
          read_at: the updates that ``read`` had seen.
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
        """Notes that a worker died."""
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
      work: what a worker repeats.
      fresh: ``(worker, its failures, old own) -> own`` for a restart, since the state of its old environments may be
        what it fails on. Called in the new thread: if it fails, the worker has failed once more.
      on_failure: called here with ``(worker, error, failures in a row)`` before it starts again; None logs a warning.
      stop: asked several times a second; True ends the run.

    Raises:
      WorkerFailed: one failed ``MAX_FAILURES`` times in a row.
    """
    counts = server.failures
    threads = [_thread(server, worker, work) for worker in range(len(server.own))]
    try:
        while not server.done():
            with server.changed:
                # With a limit: a wait without one can't be interrupted everywhere.
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
    """The thread of a worker, which starts with ``fresh`` where that is given."""

    def run() -> None:
        try:
            if fresh is not None:
                server.own[worker] = fresh(worker, server.failures.in_all[worker], server.own[worker])
            while not server.done():
                state, own, read_at = server.read(worker)
                experience, own, metrics = jax.block_until_ready(work(worker, state, own))
                server.hand_over(worker, state, experience, own, metrics, read_at)
        except BaseException as error:  # whatever ended the thread, nobody else would say so
            server.report(worker, error)

    # A daemon, so that a second Ctrl-C ends the process even while the device works.
    thread = threading.Thread(target=run, name=f"jaxrl worker {worker}", daemon=True)
    thread.start()
    return thread


def log_failure(worker: int, error: BaseException, failures: int) -> None:
    """Logs a failure: what happens without ``on_failure``."""
    logging.getLogger(__name__).warning(
        "worker %d failed (%s: %s), %d time(s) in a row; started again in fresh environments",
        worker,
        type(error).__name__,
        error,
        failures,
    )
