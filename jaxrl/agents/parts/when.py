"""A conditional for phases of an agent, which under ``vmap`` too computes a phase only when it is due."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from jaxrl.types import Array

Operand = TypeVar("Operand")
Result = TypeVar("Result")


@jax.custom_batching.custom_vmap
def _shared(some: Array, mixed: Array) -> tuple[Array, Array]:
    """Whether a predicate is True for any agent of a population, and whether agents differ; without batch axis."""
    return some, mixed


@_shared.def_vmap
def _shared_by_members(
    axis_size: int, batched: list[bool], some: Array, mixed: Array
) -> tuple[tuple[Array, Array], tuple[bool, bool]]:
    del axis_size
    if batched[1]:
        mixed = mixed.any(axis=0)
    if batched[0]:
        mixed = mixed | (some.any(axis=0) & ~some.all(axis=0))
        some = some.any(axis=0)
    return _shared(some, mixed), (False, False)


def when(
    predicate: Array, true_fn: Callable[[Operand], Result], false_fn: Callable[[Operand], Result], operand: Operand
) -> Result:
    """``true_fn(operand)`` where the predicate holds, else ``false_fn(operand)``.

    Under ``vmap`` ``lax.cond`` computes both functions, because its predicate has a batch axis. This function computes
    both only if the agents of the population differ. As long as they agree, as counters of updates and steps do, the
    other function costs nothing. Without ``vmap`` this is ``lax.cond``.

    Args:
      predicate: bool scalar.
      true_fn, false_fn: return results of the same structure.
      operand: any pytree; leave out large ones such as a replay, because it may be copied.
    """
    some, mixed = _shared(predicate, jnp.zeros((), bool))
    result = jax.lax.cond(some, true_fn, false_fn, operand)

    def chosen(result: Result) -> Result:
        return jax.tree.map(lambda new, old: jnp.where(predicate, new, old), result, false_fn(operand))

    return jax.lax.cond(mixed, chosen, lambda result: result, result)
