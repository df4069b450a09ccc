"""Turns the errors of tyro's parser, which it prints in a box, into one line."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator

from jaxrl.cli.errors import UsageError

_RULE = re.compile(r"[-─╭╮╰╯]*")


@contextlib.contextmanager
def one_line_errors(prog: str) -> Iterator[None]:
    """Turns what tyro prints before it exits into a ``UsageError``.

    Args:
      prog: the command whose ``--help`` the message names.

    Raises:
      UsageError: tyro refused the arguments.
      SystemExit: ``--help`` was printed.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            yield
    except SystemExit as stop:
        if not stop.code:
            sys.stderr.write(printed.getvalue())
            raise
        raise UsageError(f"{first_sentence(printed.getvalue())} ({prog} --help shows all flags)") from None
    sys.stderr.write(printed.getvalue())


def first_sentence(box: str) -> str:
    """The message in tyro's output, which has a title, the message, then a rule and the help of the argument.

    The frame is drawn in Unicode, or with ``-`` if standard output can't encode it.
    """
    texts = [line.strip("│ ") for line in box.splitlines()[1:]]
    message: list[str] = []
    for text in texts:
        if not _RULE.fullmatch(text):
            message.append(text)
        elif message:
            break
    if len(message) > 1 and re.fullmatch(r"Missing from .*:", message[0]):  # followed by the argument and its help
        return f"{message[1]} is missing"
    sentence = " ".join(message)
    value = re.fullmatch(r"Missing value for argument '(.*)'\..*", sentence)
    return f"{value[1]} needs a value" if value else sentence.removeprefix("Error parsing ")
