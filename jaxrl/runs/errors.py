"""Errors of runs, each with the exit code of a command that ends with it."""

from __future__ import annotations


class ConfigError(ValueError):
    """A run that can't be: an unknown name, a value out of range, a file that isn't a configuration."""

    exit_code = 2


class RunError(RuntimeError):
    """A folder that is no run, or that is one already."""

    exit_code = 2


class RunStopped(Exception):
    """A run that ended before its budget.

    Attributes:
      exit_code: of a command that ends with it.
      of_all_processes: all processes of a run end with it at once, so that they can wait for each other.
    """

    exit_code = 1
    of_all_processes = False


class Diverged(RunStopped):
    """Numbers that are not finite."""

    of_all_processes = True


class InterruptedRun(RunStopped):
    """A run that SIGINT or SIGTERM ended, after it was saved."""

    exit_code = 130
    of_all_processes = True


class NotWritten(RunStopped):
    """A file of the run that can't be written."""


class PeerLost(RunStopped):
    """Another process of the run has stopped."""
