"""Suites of environments in JAX with protocols of their own, adapted to gymnax's."""

from jaxrl.envs.adapted.base import Adapted, AdaptedParams, AdaptedState, Moved

__all__ = ["Adapted", "AdaptedParams", "AdaptedState", "Moved"]
