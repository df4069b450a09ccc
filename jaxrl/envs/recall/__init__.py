"""Environments whose reward depends on an observation long before.

``jaxrl.make("TMaze-20")``, ``jaxrl.make("MemoryChain-20")``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxrl.envs.recall.memory_chain import MemoryChain
from jaxrl.envs.recall.t_maze import TMaze

ENVIRONMENTS: dict[str, Callable[..., Any]] = {"MemoryChain": MemoryChain, "TMaze": TMaze}
"""Name -> constructor."""

SIZED = {"MemoryChain": "memory_length", "TMaze": "length"}
"""Names that a size may follow -> the argument it sets, as in "TMaze-20"."""

__all__ = ["ENVIRONMENTS", "SIZED", "MemoryChain", "TMaze"]


def __dir__() -> list[str]:
    return sorted(__all__)
