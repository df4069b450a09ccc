"""Learned models of environments, and how they are fitted.

A model that planners, search and dreams can step in is a ``jaxrl.types.Model``, like the true simulator.
"""

from jaxrl.models.ensemble import Ensemble, EnsembleParams, EnsembleState, Prediction, ensemble, only
from jaxrl.models.fit import Fitted, fit, held_out_rows

__all__ = [
    "Ensemble",
    "EnsembleParams",
    "EnsembleState",
    "Fitted",
    "Prediction",
    "ensemble",
    "fit",
    "held_out_rows",
    "only",
]


def __dir__() -> list[str]:
    return sorted(__all__)
