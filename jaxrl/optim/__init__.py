"""Optax transformations that recipes share."""

from jaxrl.optim.elementwise import ADAM, RMSPROP, annealed, clipped

__all__ = ["ADAM", "RMSPROP", "annealed", "clipped"]
