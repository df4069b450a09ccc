"""Runs: what a run is on disk, and how it is rebuilt from there.

``config`` what was asked for, ``folder`` where it lies, ``metrics`` its numbers, ``building`` from names to programs,
``loading`` from a folder to an agent. They load on first use, because names are read long before environments are.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxrl.runs.config import RunConfig
    from jaxrl.runs.folder import RunFolder
    from jaxrl.runs.loading import load

__all__ = ["RunConfig", "RunFolder", "load"]

_HOME = {"RunConfig": "config", "RunFolder": "folder", "load": "loading"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"jaxrl.runs.{_HOME[name]}"), name)
    raise AttributeError(f"module 'jaxrl.runs' has no attribute {name!r}")
