"""Planners: search for action sequences of high return in a model, see ``base`` and docs/planners.md.

``random_shooting``, ``cem`` and ``mppi`` plan from B states at once in any ``types.Model``, the true simulator or a
learned one.
"""

from jaxrl.planners.base import Plan, PlanFn, TerminalValue, sequence_like, shift
from jaxrl.planners.cem import cem
from jaxrl.planners.mppi import mppi
from jaxrl.planners.random_shooting import random_shooting

__all__ = ["Plan", "PlanFn", "TerminalValue", "cem", "mppi", "random_shooting", "sequence_like", "shift"]


def __dir__() -> list[str]:
    return sorted(__all__)
