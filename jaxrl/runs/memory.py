"""Checks whether a run fits into memory before it starts, and measures dry runs."""

from __future__ import annotations

import dataclasses
import time

import jax
import psutil
from rich.console import Console
from rich.table import Table

from jaxrl.runs.building import Built, Given, build, check_size, make_program
from jaxrl.runs.config import RunConfig
from jaxrl.runs.errors import RunStopped
from jaxrl.runs.progress import human
from jaxrl.runs.session import updates_per_call
from jaxrl.training.loop import TrainState
from jaxrl.training.program import Runnable

PROBE_SECONDS = 2.0
"""The duration of a dry run, in seconds."""

CROWD = 64
"""The number of members above which memory is first estimated from one of them."""


class DoesNotFit(RunStopped):
    """A run needs more memory than is free."""


def available_bytes(devices: int = 1) -> int:
    """The free memory of a training device; if devices share the host's memory, the share of one."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return int(psutil.virtual_memory().available) // max(1, devices // jax.process_count())


def megabytes(count: float) -> str:
    """Bytes in a suitable unit."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError


def refuse_what_cannot_fit(config: RunConfig, needed: int | None, what: str = "") -> None:
    """Refuses a run that needs more than the free memory; None if the need is unknown.

    Raises:
      DoesNotFit: the message has both figures and what could be made smaller.
    """
    available = available_bytes(config.devices)
    if needed is None or needed <= available:
        return
    smaller = ["seeds", "num_envs", "rollout_length"]
    smaller += [name for name in config.hyperparameters if name.endswith("capacity")]
    raise DoesNotFit(
        f"{what or 'the state'} of {members(config)} needs {megabytes(needed)} of memory and {megabytes(available)} "
        f"are free; lower one of {', '.join(smaller)}"
    )


def check_population_fits(config: RunConfig, given: Given | None = None) -> None:
    """Refuses members that cannot fit, by the state of one of them, before even their keys are made.

    Raises:
      DoesNotFit: see ``refuse_what_cannot_fit``.
      ConfigError: the configuration can't be built.
    """
    check_size(config)
    if config.num_members > CROWD:
        one = dataclasses.replace(config, seeds=1, sweep=None)
        whole = config.num_members * make_program(one, build(one, given)).state_bytes()
        refuse_what_cannot_fit(config, whole // config.devices)


def describe_state(config: RunConfig, program: Runnable) -> str:
    """A sentence about the state's memory on each device, and the replay's if there is one."""
    total = program.state_bytes()
    text = megabytes(total)
    members_here = config.num_members // config.seed_devices
    if members_here > 1:
        text += f" ({megabytes(total / members_here)} each)"
    if "replay" in config.parts:
        text += f", {megabytes(program.state_bytes(lambda state: state.agent.per_env))} of it replay"
    if config.devices > 1:
        text += f", on each of {config.devices} devices"
    return text


def _describe_replay(config: RunConfig, built: Built) -> str:
    """The name and the size of the replay, which may hold the whole run."""
    capacity = config.hyperparameters["replay_capacity"]
    steps = built.num_updates * config.num_envs * config.rollout_length
    which = "all" if capacity >= steps else "the last"
    return f"{config.parts['replay'].name}, {capacity:,} transitions, {which} of a seed's {human(steps)} steps"


def members(config: RunConfig) -> str:
    """The members in words: 8 seeds x 3 values of gamma."""
    seeds = f"{config.seeds} seed{'s' if config.seeds != 1 else ''}"
    return seeds if config.sweep is None else f"{seeds} x {len(config.sweep.values)} values of {config.sweep.title}"


def duration(seconds: float) -> str:
    """A duration in words: "under a second", "42 s", "7 min", "3.5 h"."""
    if seconds < 1:
        return "under a second"
    if seconds < 120:
        return f"about {seconds:.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 7200 else f"about {seconds / 3600:.1f} h"


def dry_run(
    config: RunConfig, built: Built, program: Runnable, state: TrainState, compile_seconds: float, console: Console
) -> None:
    """Measures a compiled run from its first state, and prints memory, compile time and steps a second."""
    chunk = updates_per_call(config, built.num_updates)
    peak = program.memory_bytes(chunk)
    updates, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < PROBE_SECONDS:
        count = 1 if not updates else min(chunk, 2 * updates)
        state, metrics = program.advance(state, count)
        jax.block_until_ready((state, metrics))
        updates += count
    seconds = time.perf_counter() - begin
    per_update = config.num_envs * config.rollout_length * config.num_members
    speed, total = updates * per_update / seconds, built.num_updates * per_update
    together = ", all members together" if config.num_members > 1 else ""
    rows = {
        "members": members(config) + (f" = {config.num_members}" if config.sweep else ""),
        "state": describe_state(config, program),
        **({"replay": _describe_replay(config, built)} if "replay" in config.parts else {}),
        "peak while training": "not known on this device" if peak is None else megabytes(peak),
        "free memory": megabytes(available_bytes(config.devices)),
        "compile time": f"{compile_seconds:.1f} s",
        "speed": f"{human(speed)} steps/s{together} (probe of {updates} updates)",
        "whole run": f"{human(total)} steps in {built.num_updates} updates, {duration(total / speed)}",
    }
    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table, highlight=False)
