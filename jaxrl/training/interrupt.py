"""Ctrl-C that waits: the first one asks a long run to stop at its next pause, the second one is the usual one."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


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


@contextlib.contextmanager
def interrupts_wait() -> Iterator[Callable[[], bool]]:
    """Inside, the first SIGINT or SIGTERM is only noted, and a SIGINT after it raises ``KeyboardInterrupt``.

    Only the main thread may handle signals; elsewhere, and for a signal that is ignored (SIGINT in a background job),
    nothing changes. SIGTERM is what schedulers send before they kill. It may come twice at once (``timeout`` sends it
    to a process and to its group), so it never cuts the saving short.

    Yields:
      ``interrupted()``, True once one of them came.
    """
    noted = threading.Event()
    previous = {which: signal.getsignal(which) for which in (signal.SIGINT, signal.SIGTERM)}
    previous = {which: handler for which, handler in previous.items() if handler is not signal.SIG_IGN}
    if threading.current_thread() is not threading.main_thread():
        yield noted.is_set
        return

    def note(signum: int, frame: Any) -> None:
        if noted.is_set() and signum == signal.SIGINT:
            raise KeyboardInterrupt
        noted.set()

    for which in previous:
        signal.signal(which, note)
    try:
        yield noted.is_set
    finally:
        for which, handler in previous.items():
            # None stands for a handler that was not installed from Python, and cannot be put back from there.
            signal.signal(which, signal.SIG_DFL if handler is None else handler)
