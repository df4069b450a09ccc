"""Probe environments are so small that their solutions are known, so a failure shows which part is broken.

Each takes seconds of training. ``solution(gamma)`` is the answer (the values of the best policy, with the discount
factor gamma). The docstring of each probe derives it and says which faults miss it. ``PROBES`` lists them all. They
are made without arguments; the probes of values take ``continuous=True`` for continuous actions.
"""

from jaxrl.envs.probes.actions import (
    ActionProbe,
    ContinuousActionProbe,
    ContinuousObservationActionProbe,
    ImageProbe,
    MaskedProbe,
    ObservationActionProbe,
)
from jaxrl.envs.probes.base import Probe, ProbeState, Solution, ValueOnlyProbe
from jaxrl.envs.probes.indexed import Indexed
from jaxrl.envs.probes.values import DiscountProbe, ObservationProbe, TruncationProbe, ValueProbe

PROBES: tuple[type[Probe], ...] = (
    ValueProbe,
    ObservationProbe,
    DiscountProbe,
    TruncationProbe,
    ActionProbe,
    ObservationActionProbe,
    ContinuousActionProbe,
    ContinuousObservationActionProbe,
    MaskedProbe,
    ImageProbe,
)

__all__ = [
    "PROBES",
    "ActionProbe",
    "ContinuousActionProbe",
    "ContinuousObservationActionProbe",
    "DiscountProbe",
    "ImageProbe",
    "Indexed",
    "MaskedProbe",
    "ObservationActionProbe",
    "ObservationProbe",
    "Probe",
    "ProbeState",
    "Solution",
    "TruncationProbe",
    "ValueOnlyProbe",
    "ValueProbe",
]


def __dir__() -> list[str]:
    return sorted(__all__)
