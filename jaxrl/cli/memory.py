"""Whether a run fits, before it starts; and what a dry run measures."""

from __future__ import annotations

import time

import jax
import psutil
from rich.console import Console
from rich.table import Table

from jaxrl.cli.errors import CommandError
from jaxrl.cli.progress import human
from jaxrl.cli.session import updates_per_chunk
from jaxrl.runs.building import Built
from jaxrl.runs.config import RunConfig
from jaxrl.training.program import Program

PROBE_SECONDS = 2.0
"""How long a dry run trains to measure its speed."""


class DoesNotFit(CommandError):
    """More memory is needed than there is."""


def available_bytes() -> int:
    """Free memory of the device that trains; of the host, where that is the device."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return int(psutil.virtual_memory().available)


def megabytes(count: float) -> str:
    """Bytes in the unit that suits them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError


def refuse_what_cannot_fit(what: str, needed: int | None) -> None:
    """Refuses a need beyond the free memory.

    Raises:
      DoesNotFit: with both figures.
    """
    available = available_bytes()
    if needed is not None and needed > available:
        raise DoesNotFit(
            f"{what} needs {megabytes(needed)} of memory and {megabytes(available)} are free; take fewer seeds, fewer "
            "environments or shorter rollouts"
        )


def dry_run(config: RunConfig, built: Built, program: Program, compile_seconds: float, console: Console) -> None:
    """Measures a compiled run without starting it, and prints memory, compile time and steps a second."""
    members, chunk = len(config.members()), updates_per_chunk(config, built.num_updates)
    state_bytes = program.state_bytes()
    peak = program.memory_bytes(chunk)
    state = program.start()
    updates, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < PROBE_SECONDS:
        count = 1 if not updates else min(chunk, 2 * updates)
        state, metrics = program.advance(state, count)
        jax.block_until_ready((state, metrics))
        updates += count
    seconds = time.perf_counter() - begin
    speed = updates * config.num_envs * config.rollout_length * members / seconds
    total = built.num_updates * config.num_envs * config.rollout_length * members
    table = Table(show_header=False, box=None)
    values = f" x {len(config.sweep.values)} values of {config.sweep.name}" if config.sweep else ""
    rows = {
        "members": f"{members} ({config.seeds} seeds{values})",
        "state": f"{megabytes(state_bytes)} ({megabytes(state_bytes / members)} a seed)",
        "peak while training": "not known on this device" if peak is None else megabytes(peak),
        "free memory": megabytes(available_bytes()),
        "compile time": f"{compile_seconds:.1f} s",
        "speed": f"{human(speed)} steps/s (probe of {updates} updates)",
        "whole run": f"{human(total)} steps in {built.num_updates} updates, about {total / speed:.0f} s",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
