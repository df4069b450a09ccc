"""Errors that end a command with one line."""

from __future__ import annotations


class CommandError(Exception):
    """A command that failed."""

    exit_code = 1


class UsageError(CommandError):
    """A command that was asked wrongly."""

    exit_code = 2
