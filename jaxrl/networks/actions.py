"""Actions as inputs of a model's network."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxrl.types import Array, Box, Discrete


def action_size(space: Discrete | Box) -> int:
    """The number of inputs of one action."""
    return space.num_actions if isinstance(space, Discrete) else math.prod(space.shape)


def action_input(space: Discrete | Box, action: Array) -> Array:
    """Actions ``[..., *shape]`` as ``[..., A]`` float32; discrete actions are one-hot.

    >>> action_input(Discrete(3), jnp.array([2, 0])).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    if isinstance(space, Discrete):
        return jax.nn.one_hot(action, space.num_actions, dtype=jnp.float32)
    batch = action.shape[: action.ndim - len(space.shape)]
    return action.astype(jnp.float32).reshape(*batch, action_size(space))
