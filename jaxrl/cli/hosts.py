"""The flags that make several processes one run. They are read before any computation.

Even an import may compute, as gymnax's does, so this module imports only the parser.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from jaxrl import processes
from jaxrl.cli.errors import UsageError


@dataclasses.dataclass(frozen=True)
class HostFlags:
    """The flags by which the processes of one run find each other."""

    distributed: tyro.conf.FlagCreatePairsOff[bool] = False
    """Run as one of several processes, which SLURM, Open MPI, Kubernetes or the next three flags describe."""
    coordinator: Annotated[
        str | None, tyro.conf.arg(metavar="HOST:PORT", help_behavior_hint="(default: from the scheduler)")
    ] = None
    """(--distributed) Address of process 0."""
    num_processes: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: from the scheduler)")] = None
    """(--distributed) Number of processes."""
    process_id: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: from the scheduler)")] = None
    """(--distributed) Index of this process, from 0."""


def host_flags() -> list[str]:
    """The names of the flags of ``HostFlags``."""
    return ["--" + field.name.replace("_", "-") for field in dataclasses.fields(HostFlags)]


def connect(arguments: Sequence[str]) -> None:
    """Joins the other processes if the arguments ask for it.

    This comes first, because JAX can't join processes after its first computation. Errors in other arguments are left
    to the parser.

    Raises:
      UsageError: the three flags are given without ``--distributed`` or not all three, or an address is not HOST:PORT.
      ConnectionFailed: the other processes did not connect, or nothing describes them.
    """
    if {"-h", "--help"} & set(arguments):
        return
    scan = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    scan.add_argument("--distributed", action="store_true")
    for flag in host_flags()[1:]:
        scan.add_argument(flag, f"--{flag[2:].replace('-', '_')}", nargs="?")
    try:
        given = scan.parse_known_args(list(arguments))[0]
    except argparse.ArgumentError:  # a value after --distributed, which the command's own parser refuses
        return
    values = (given.coordinator, given.num_processes, given.process_id)
    if not given.distributed:
        if values != (None, None, None):
            raise UsageError("--coordinator, --num-processes and --process-id need --distributed")
        return
    if values == (None, None, None):
        processes.connect()
        return
    if None in values:
        raise UsageError(
            "--coordinator, --num-processes, --process-id: give all three, or none if a scheduler sets them"
        )
    coordinator, count, number = str(values[0]), _whole("num-processes", values[1]), _whole("process-id", values[2])
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(f"--coordinator: got '{coordinator}', must be HOST:PORT of process 0")
    if not 0 <= number < count:
        raise UsageError(f"--process-id: got {number}, must be in [0, {count - 1}] for --num-processes {count}")
    processes.connect(coordinator, count, number)


def _whole(name: str, text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"--{name}: got '{text}', must be an integer")
    return int(text)
