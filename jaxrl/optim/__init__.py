"""Optax transformations that recipes share."""

from jaxrl.optim.averaged import averaged
from jaxrl.optim.delayed import DelayedState, delayed
from jaxrl.optim.elementwise import ADAM, RMSPROP, annealed, clipped, rate_at
from jaxrl.optim.natural_gradient import (
    BacktrackState,
    backtrack,
    fisher_vector_product,
    natural_gradient,
    trust_region,
)

__all__ = [
    "ADAM",
    "RMSPROP",
    "BacktrackState",
    "DelayedState",
    "annealed",
    "averaged",
    "backtrack",
    "clipped",
    "delayed",
    "fisher_vector_product",
    "natural_gradient",
    "rate_at",
    "trust_region",
]


def __dir__() -> list[str]:
    return sorted(__all__)
