"""Errors that end a command with one line."""

from __future__ import annotations


class CommandError(Exception):
    """A command that failed."""

    exit_code = 1
    of_all_processes = False
    """Whether all processes of a run fail with it at once, so that they can wait for each other on their way out."""


class UsageError(CommandError):
    """A command that was asked wrongly."""

    exit_code = 2


class InterruptedRun(CommandError):
    """A run that Ctrl-C ended, after it was saved."""

    exit_code = 130
    of_all_processes = True
