"""The console that every command prints to: it wraps at a terminal's width, and nowhere in a pipe or a file."""

from __future__ import annotations

import os

from rich.console import Console
from rich.table import Table

UNBOUNDED = 10_000
"""Columns of a pipe or a file, so that ``grep`` and ``less`` get a sentence, a row or a path in one piece."""


def make_console(*, quiet: bool = False) -> Console:
    """A console of standard output.

    ``COLUMNS`` sets the width where a program, a pipe or a file reads the output.

    Args:
      quiet: print nothing.
    """
    # No markup: names of folders, environments and settings may have brackets.
    console = Console(quiet=quiet, highlight=False, markup=False)
    if not console.is_terminal and not os.environ.get("COLUMNS", "").isdecimal():
        console.width = UNBOUNDED
    return console


def print_titled(console: Console, title: str, table: Table, caption: str = "") -> None:
    """Prints a table between two lines of text, which rich would wrap at the width of the table."""
    console.print(title, style="italic", soft_wrap=True)
    console.print(table)
    if caption:
        console.print(caption, style="dim", soft_wrap=True)
