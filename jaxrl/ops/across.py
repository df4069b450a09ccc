"""Means and sums over all environments, also where they are split over devices.

Inside a ``jax.shard_map`` (or ``jax.vmap``) over an axis named ``AXIS`` the environments are split among its members,
and what is computed of environments is computed of one part of them. These functions put the parts together; where no
such axis is in scope they return what they are given, so that code made of them is written once. Every member has as
many environments as any other, so the mean over all is the mean of the parts' means.

They are not to be differentiated through: reduce gradients, not losses.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array

AXIS = "envs"
"""The name of the axis over which environments are split."""


def size(axis: str = AXIS) -> int:
    """The number of parts that environments are split into: a Python int, 1 where no such axis is in scope.

    >>> size(), jax.vmap(lambda x: x * size(), axis_name=AXIS)(jnp.ones(3)).tolist()
    (1, [3.0, 3.0, 3.0])
    """
    try:
        return int(jax.lax.axis_size(axis))
    except NameError:
        return 1


def index() -> Array:
    """The index of this part, int32, from 0 on."""
    return jnp.zeros((), jnp.int32) if size() == 1 else jax.lax.axis_index(AXIS)


def mean(tree: Any, axis: str = AXIS) -> Any:
    """The mean of each leaf over the parts.

    >>> jax.vmap(mean, axis_name=AXIS)(jnp.array([1.0, 3.0])).tolist()
    [2.0, 2.0]
    """
    return tree if size(axis) == 1 else jax.lax.pmean(tree, axis)


def total(tree: Any) -> Any:
    """The sum of each leaf over the parts."""
    return tree if size() == 1 else jax.lax.psum(tree, AXIS)


def least(x: Array) -> Array:
    """The smallest over the parts."""
    return x if size() == 1 else jax.lax.pmin(x, AXIS)


def variance(x: Array) -> Array:
    """The variance of all elements of all parts, a scalar."""
    if size() == 1:
        return jnp.var(x)
    return mean(jnp.mean(jnp.square(x - mean(jnp.mean(x)))))


def own(key: Array) -> Array:
    """A key for this part alone, from one that all parts share."""
    return key if size() == 1 else jax.random.fold_in(key, index())


def share(name: str, count: int) -> int:
    """This part's share of a count.

    Raises:
      ValueError: it is not a multiple of the number of parts; ``name`` is in the message.
    """
    if count % size():
        raise ValueError(
            f"{name}: got {count}, which does not divide into equal parts for {size()} devices; "
            f"take a multiple of {size()}"
        )
    return count // size()
