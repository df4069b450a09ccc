"""Environments in which looking ahead pays: for learned models, planners and imagination.

``jaxrl.make("TakeCover")``, ``jaxrl.make("TakeCover-8")``, ``jaxrl.make("TwoBox")``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxrl.envs.foresight.take_cover import TakeCover
from jaxrl.envs.foresight.two_box import TwoBox

ENVIRONMENTS: dict[str, Callable[..., Any]] = {"TakeCover": TakeCover, "TwoBox": TwoBox}
"""Name -> constructor."""

SIZED = {"TakeCover": "cue_delay"}
"""Names that a size may follow -> the argument that it is: "TakeCover-8"."""

__all__ = ["ENVIRONMENTS", "SIZED", "TakeCover", "TwoBox"]


def __dir__() -> list[str]:
    return sorted(__all__)
