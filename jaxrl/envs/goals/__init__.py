"""Goal-conditioned environments of our own: bit flipping and a point that is pushed to a place.

``jaxrl.make("BitFlipping-40")``, ``jaxrl.make("BitFlipping", num_bits=40)``, ``jaxrl.make("PointReach")``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxrl.envs.goals.base import GoalEnvironment
from jaxrl.envs.goals.bit_flipping import BitFlipping
from jaxrl.envs.goals.point_reach import PointReach

ENVIRONMENTS: dict[str, Callable[..., GoalEnvironment]] = {"BitFlipping": BitFlipping, "PointReach": PointReach}
"""Name -> constructor."""

SIZED = {"BitFlipping": "num_bits"}
"""Names that a size may follow -> the argument that it is: "BitFlipping-40"."""


def split_name(name: str) -> tuple[str, dict[str, Any]]:
    """A name into that of ``ENVIRONMENTS`` and what it says of the constructor's arguments.

    >>> split_name("BitFlipping-40"), split_name("PointReach")
    (('BitFlipping', {'num_bits': 40}), ('PointReach', {}))
    """
    stem, _, size = name.rpartition("-")
    if stem in SIZED and size.isdecimal():
        return stem, {SIZED[stem]: int(size)}
    return name, {}


__all__ = ["ENVIRONMENTS", "SIZED", "BitFlipping", "GoalEnvironment", "PointReach", "split_name"]
