"""Runs on disk, and how they are rebuilt.

``config`` holds the settings, ``folder`` the files, ``metrics`` their numbers, ``presets`` the defaults. ``building``
makes programs from names, ``loading`` an agent from a folder. Everything is loaded on first use, because names are read
long before environments are needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxrl.runs.config import RunConfig
    from jaxrl.runs.folder import RunFolder
    from jaxrl.runs.loading import load
    from jaxrl.runs.presets import preset
    from jaxrl.runs.python import resume, train

__all__ = ["RunConfig", "RunFolder", "load", "preset", "resume", "train"]

_HOME = {
    "RunConfig": "config",
    "RunFolder": "folder",
    "load": "loading",
    "preset": "presets",
    "resume": "python",
    "train": "python",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"jaxrl.runs.{_HOME[name]}"), name)
    raise AttributeError(f"module 'jaxrl.runs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
