"""Optax transformations that recipes share."""

from jaxrl.optim.averaged import averaged
from jaxrl.optim.elementwise import ADAM, RMSPROP, annealed, clipped
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
    "annealed",
    "averaged",
    "backtrack",
    "clipped",
    "fisher_vector_product",
    "natural_gradient",
    "trust_region",
]
