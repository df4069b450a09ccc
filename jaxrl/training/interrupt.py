"""Deferred Ctrl-C: the first one asks a run to stop at its next pause, the second one interrupts as usual."""

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
    """A signal stopped a run between two chunks; nothing is lost.

    Attributes:
      state: the current state, to save or to continue from.
      metrics: ``[S, updates done]`` each, of this call.
    """

    def __init__(self, state: Any, metrics: dict[str, np.ndarray]) -> None:
        super().__init__(f"interrupted after {int(np.max(state.updates))} updates")
        self.state, self.metrics = state, metrics


@contextlib.contextmanager
def termination_interrupts() -> Iterator[None]:
    """A context in which SIGTERM raises ``KeyboardInterrupt`` like SIGINT, while there is nothing to save yet."""
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
    """The wait for a call in another thread ended before the call."""


def in_a_thread(call: Callable[[], T], *, seconds: float | None = None, until: Callable[[], bool] | None = None) -> T:
    """Makes a call in another thread and returns its result; meanwhile this thread can handle signals.

    XLA blocks the thread that it compiles or computes in, and Python's signal handlers run in the main thread.

    Args:
      call: the function to call. Trace before compiling, because settings of JAX may belong to a thread.
      seconds: longest wait; None for no limit.
      until: called several times per second; True ends the wait.

    Raises:
      GivenUp: the wait ended first; the thread continues, and its result is discarded.
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
    """A context in which the first SIGINT or SIGTERM is only recorded, and a later SIGINT raises ``KeyboardInterrupt``.

    Only the main thread may handle signals; elsewhere, and for a signal that is ignored (SIGINT in a background job),
    nothing changes. Schedulers send SIGTERM before they kill. It may come twice at once (``timeout`` sends it to a
    process and to its group), so a second one never interrupts saving. Contexts may be nested.

    Yields:
      ``interrupted()``, True after one of these signals.
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
            # None stands for a handler that was not installed from Python and cannot be restored from Python.
            signal.signal(which, signal.SIG_DFL if handler is None else handler)
