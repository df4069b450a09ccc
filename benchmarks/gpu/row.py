"""What a row is: one measurement with a name, a time limit, and a function that returns its figures."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Figures = dict[str, Any]


class Skipped(Exception):
    """A row can't run here; the message says why."""


class Row(NamedTuple):
    """One measurement.

    Attributes:
      name: of the row, ``topic/what``.
      measure: ``(small) -> figures``; with ``small`` at sizes that a CPU does in seconds.
      limit: seconds after which the row is stopped.
      needs: seconds that must be left for a start at full size to make sense.
      published: figures of others, with their hardware.
    """

    name: str
    measure: Callable[[bool], Figures]
    limit: float
    needs: float = 10.0
    published: str = ""


def timed(call: Callable[[], Any], enough: float = 8.0, most: int = 4) -> float:
    """The median seconds of a compiled call; the first one counts only if it took so long that there is no other."""
    times: list[float] = []
    while len(times) < most and sum(times) < enough:
        begin = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:] or times)


def compiled(function: Callable[..., Any], *arguments: Any, donate: tuple[int, ...] = ()) -> tuple[Any, float]:
    """The compiled function, and the seconds that it took to compile."""
    begin = time.perf_counter()
    program = jax.jit(function, donate_argnums=donate).lower(*arguments).compile()
    return program, time.perf_counter() - begin


def require_memory(num_bytes: float) -> None:
    """Raises ``Skipped`` if the device is known to be smaller."""
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    if limit is not None and num_bytes > 0.9 * limit:
        raise Skipped(f"takes {num_bytes / 1e9:.1f} GB, the device has {limit / 1e9:.1f} GB")
