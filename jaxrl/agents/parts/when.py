"""A step that is taken now and then, and only computed then, in a population under ``vmap`` too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from jaxrl.types import Array

State = TypeVar("State")


@jax.custom_batching.custom_vmap
def anywhere(flag: Array) -> Array:
    """Whether a flag is set in any member of a ``vmap``: one flag, the same for all members."""
    return flag


@anywhere.def_vmap
def _anywhere_of_members(axis_size: int, batched: list[bool], flag: Array) -> tuple[Array, bool]:
    return anywhere(jnp.any(flag, axis=0) if batched[0] else flag), False


def when(due: Array, step: Callable[[State], State], state: State) -> State:
    """``step(state)`` where due, else ``state``.

    A plain ``lax.cond`` turns into a choice between two computed results once its flag has a batch axis, as every
    counter of a vmapped population has. Here the step is computed if it is due in any member, and members in which it
    is not keep their state.

    Args:
      due: bool scalar.
      step: from a state to one of the same structure.
      state: any pytree; it is copied where it is not changed, so no replay.
    """

    def taken(state: State) -> State:
        return jax.tree.map(lambda new, old: jnp.where(due, new, old), step(state), state)

    return jax.lax.cond(anywhere(due), taken, lambda state: state, state)
