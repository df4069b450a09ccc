"""Errors that end a command with one line."""

from __future__ import annotations


class CommandError(Exception):
    """A command that failed."""

    exit_code = 1


class UsageError(CommandError):
    """A command with wrong arguments."""

    exit_code = 2
