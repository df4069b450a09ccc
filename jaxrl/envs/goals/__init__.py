"""Goal-conditioned environments: bit flipping, and a point mass that is pushed to a goal.

``jaxrl.make("BitFlipping-40")``, ``jaxrl.make("BitFlipping", num_bits=40)``, ``jaxrl.make("PointReach")``.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxrl.envs.goals.base import GoalEnvironment
from jaxrl.envs.goals.bit_flipping import BitFlipping
from jaxrl.envs.goals.point_reach import PointReach

ENVIRONMENTS: dict[str, Callable[..., GoalEnvironment]] = {"BitFlipping": BitFlipping, "PointReach": PointReach}
"""Name -> constructor."""

SIZED = {"BitFlipping": "num_bits"}
"""Names that a size may follow -> the argument it sets, as in "BitFlipping-40"."""

__all__ = ["ENVIRONMENTS", "SIZED", "BitFlipping", "GoalEnvironment", "PointReach"]


def __dir__() -> list[str]:
    return sorted(__all__)
