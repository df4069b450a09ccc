"""An extension of Griffe: examples in docstrings become fenced code, so that their output is not read as Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"((?:^>>> .*\n(?:(?!>>>)\S.*\n|\.\.\. ?.*\n)*)+)", re.MULTILINE)


def fenced(text: str) -> str:
    """A docstring with a fence around each run of examples and their output."""
    return EXAMPLE.sub(r"```pycon\n\1```\n", f"{text}\n").rstrip("\n")


class Doctests(griffe.Extension):
    """Changes the docstring of every object that is read."""

    def on_object(self, *, obj: griffe.Object, **options: Any) -> None:
        """Fences the examples of one object."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
