"""Text tasks: environments whose actions are whole texts. ``jaxrl.text`` has the language models that write them.

``jaxrl.make("Reverse-6")``, ``"Sort-6"``, ``"Add-2"``, ``"Brackets-6"``, ``"Vowels-16"``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxrl.envs.texts.base import TextTask
from jaxrl.envs.texts.brackets import Brackets
from jaxrl.envs.texts.exact import Add, Reverse, Sort
from jaxrl.envs.texts.taste import Vowels

ENVIRONMENTS: dict[str, Callable[..., Any]] = {
    "Add": Add,
    "Brackets": Brackets,
    "Reverse": Reverse,
    "Sort": Sort,
    "Vowels": Vowels,
}
"""Name -> constructor."""

SIZED = {
    "Add": "num_digits",
    "Brackets": "num_brackets",
    "Reverse": "num_letters",
    "Sort": "num_letters",
    "Vowels": "num_letters",
}
"""Names that a size may follow -> the argument it sets, as in "Reverse-6"."""

__all__ = ["ENVIRONMENTS", "SIZED", "Add", "Brackets", "Reverse", "Sort", "TextTask", "Vowels"]


def __dir__() -> list[str]:
    return sorted(__all__)
