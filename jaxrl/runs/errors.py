"""Errors of runs, each with the exit code of a command that ends with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


class ConfigError(ValueError):
    """An invalid run: a name is unknown, a value is out of range, or a file is not a configuration."""

    exit_code = 2


class RunError(RuntimeError):
    """A folder that is not a run, or that already contains one."""

    exit_code = 2


class RunStopped(Exception):
    """A run that ended before its budget.

    Attributes:
      exit_code: the exit code of a command that ends with it.
      of_all_processes: whether all processes of a run end with it together, so that they can wait for each other.
    """

    exit_code = 1
    of_all_processes = False


class Diverged(RunStopped):
    """A number is not finite."""

    of_all_processes = True


class InterruptedRun(RunStopped):
    """SIGINT or SIGTERM ended the run, after it was saved."""

    exit_code = 130
    of_all_processes = True


class NotWritten(RunStopped):
    """A file can't be written."""


class EnvironmentStopped(RunStopped):
    """An environment outside JAX has failed."""


class JudgeStopped(RunStopped):
    """A judge refuses to answer the questions of a run."""


class PeerLost(RunStopped):
    """Another process of the run has stopped."""


@contextlib.contextmanager
def written(path: Path, advice: str = "") -> Iterator[None]:
    """Names the file that can't be written, for example because its folder is read-only or the disk is full.

    Args:
      path: the file.
      advice: what to do, if there is more to say than the reason.

    Raises:
      NotWritten: in place of an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        more = f"; {advice}" if advice else ""
        raise NotWritten(f"{path} can't be written ({error.strerror or error}){more}") from error
