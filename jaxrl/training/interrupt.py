"""Ctrl-C that waits: the first one asks a long run to stop at its next pause, the second one is the usual one."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import numpy as np

T = TypeVar("T")


class Interrupted(Exception):
    """SIGINT stopped a run between two chunks, and nothing is lost.

    Attributes:
      state: the live state, to save or to go on from.
      metrics: ``[S, updates done]`` each, of this call.
    """

    def __init__(self, state: Any, metrics: dict[str, np.ndarray]) -> None:
        super().__init__(f"interrupted after {int(np.max(state.updates))} updates")
        self.state, self.metrics = state, metrics


@contextlib.contextmanager
def termination_interrupts() -> Iterator[None]:
    """Inside, SIGTERM raises ``KeyboardInterrupt`` as SIGINT does, where there is nothing to save yet."""
    previous = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or previous is signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if previous is None else previous)


class GivenUp(Exception):
    """A call in another thread was not waited for."""


def in_a_thread(call: Callable[[], T], *, seconds: float | None = None, until: Callable[[], bool] | None = None) -> T:
    """The result of a call that is made in another thread, so that signals reach this one in the meantime.

    XLA holds the thread that it compiles or computes in, and Python's signal handlers run in the main one.

    Args:
      call: what to do. A compilation is traced before, since settings of JAX may belong to a thread.
      seconds: how long to wait at most; None for as long as it takes.
      until: asked several times a second; True ends the waiting.

    Raises:
      GivenUp: the waiting is over; the thread goes on, and its result is dropped.
    """
    done: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((call(), None))
        except BaseException as error:  # raised again below
            done.put((None, error))

    begin = time.monotonic()
    threading.Thread(target=run, name="jaxrl computes", daemon=True).start()
    while True:
        try:
            result, error = done.get(timeout=0.1)
        except queue.Empty:
            if (until is not None and until()) or (seconds is not None and time.monotonic() - begin > seconds):
                raise GivenUp from None
            continue
        if error is not None:
            raise error
        return cast(T, result)


class _Note:
    """The handler of ``interrupts_wait``."""

    def __init__(self) -> None:
        self.noted = threading.Event()

    def __call__(self, signum: int, frame: Any) -> None:
        if self.noted.is_set() and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.noted.set()


@contextlib.contextmanager
def interrupts_wait() -> Iterator[Callable[[], bool]]:
    """Inside, the first SIGINT or SIGTERM is only noted, and a SIGINT after it raises ``KeyboardInterrupt``.

    Only the main thread may handle signals; elsewhere, and for a signal that is ignored (SIGINT in a background job),
    nothing changes. SIGTERM is what schedulers send before they kill. It may come twice at once (``timeout`` sends it
    to a process and to its group), so it never cuts the saving short. One inside of another is the same.

    Yields:
      ``interrupted()``, True once one of them came.
    """
    previous = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)}
    outer = next((handler for handler in previous.values() if isinstance(handler, _Note)), None)
    note = outer or _Note()
    if outer is not None or threading.current_thread() is not threading.main_thread():
        yield note.noted.is_set
        return
    previous = {which: handler for which, handler in previous.items() if handler is not signal.SIG_IGN}
    for which in previous:
        signal.signal(which, note)
    try:
        yield note.noted.is_set
    finally:
        for which, handler in previous.items():
            # None stands for a handler that was not installed from Python, and cannot be put back from there.
            signal.signal(which, signal.SIG_DFL if handler is None else handler)
