"""A phase of an agent: computed when it is due, and only then, in a population under ``vmap`` too."""

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
    """Whether a predicate holds for some member of a population, and whether members differ; alike for all members."""
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

    ``lax.cond`` computes both once its predicate has a batch axis, as every counter of a vmapped population has. Here
    both are computed only if members differ; as long as they agree, which counters of updates and steps do, the other
    function costs nothing. Without ``vmap`` this is ``lax.cond``.

    Args:
      predicate: bool scalar.
      true_fn, false_fn: give results of one structure.
      operand: any pytree; a large one, such as a replay, is better left out, because it may be copied.
    """
    some, mixed = _shared(predicate, jnp.zeros((), bool))
    result = jax.lax.cond(some, true_fn, false_fn, operand)

    def chosen(result: Result) -> Result:
        return jax.tree.map(lambda new, old: jnp.where(predicate, new, old), result, false_fn(operand))

    return jax.lax.cond(mixed, chosen, lambda result: result, result)
