"""Means and sums over all environments, including environments that are split over devices.

Inside a ``jax.shard_map`` (or ``jax.vmap``) over an axis named ``AXIS``, each index of the axis has an equal share of
the environments, and a mean or sum covers that share only. These functions reduce over the axis. Outside of such an
axis they return their argument, so the same code serves both cases. Shares are equal, so the mean over all
environments is the mean of the shares' means.

Do not differentiate through them: reduce gradients, not losses.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array

AXIS = "envs"
"""The name of the axis over which environments are split."""


def size(axis: str = AXIS) -> int:
    """The size of the axis, a Python int; 1 outside of such an axis.

    >>> size(), jax.vmap(lambda x: x * size(), axis_name=AXIS)(jnp.ones(3)).tolist()
    (1, [3.0, 3.0, 3.0])
    """
    try:
        return int(jax.lax.axis_size(axis))
    except NameError:
        return 1


def index() -> Array:
    """The index along the axis, int32, from 0."""
    return jnp.zeros((), jnp.int32) if size() == 1 else jax.lax.axis_index(AXIS)


def mean(tree: Any, axis: str = AXIS) -> Any:
    """The mean of each leaf over the axis.

    >>> jax.vmap(mean, axis_name=AXIS)(jnp.array([1.0, 3.0])).tolist()
    [2.0, 2.0]
    """
    return tree if size(axis) == 1 else jax.lax.pmean(tree, axis)


def total(tree: Any) -> Any:
    """The sum of each leaf over the axis."""
    return tree if size() == 1 else jax.lax.psum(tree, AXIS)


def gather(tree: Any) -> Any:
    """Each leaf ``[N, ...]`` with those of all indices behind each other, ``[size() N, ...]``, the same everywhere.

    >>> jax.vmap(gather, axis_name=AXIS)(jnp.array([[1], [3]])).tolist()
    [[1, 3], [1, 3]]
    """
    return tree if size() == 1 else jax.lax.all_gather(tree, AXIS, tiled=True)


def least(x: Array) -> Array:
    """The minimum over the axis."""
    return x if size() == 1 else jax.lax.pmin(x, AXIS)


def variance(x: Array) -> Array:
    """The variance of all elements over the axis, a scalar."""
    if size() == 1:
        return jnp.var(x)
    return mean(jnp.mean(jnp.square(x - mean(jnp.mean(x)))))


def own(key: Array) -> Array:
    """A key for this index of the axis, derived from a key that all share."""
    return key if size() == 1 else jax.random.fold_in(key, index())


def share(name: str, count: int) -> int:
    """The equal share of a count for each index of the axis.

    Raises:
      ValueError: the count is not a multiple of the size of the axis; the message contains ``name``.
    """
    if count % size():
        raise ValueError(
            f"{name}: got {count}, must be a multiple of {size()}, the number of devices that share the environments"
        )
    return count // size()


@jax.custom_batching.custom_vmap
def any_vmapped(condition: Array) -> Array:
    """Whether any element is true, over the axes of every enclosing ``vmap`` too.

    A ``while_loop`` whose condition differs along a vmapped axis selects between the old and the new carry at every
    step, and can't call environments outside of JAX. With this condition it doesn't select, so the body must leave
    finished elements unchanged.

    >>> jax.vmap(any_vmapped)(jnp.array([True, False])).tolist()
    [True, True]
    """
    return jnp.any(condition)


@any_vmapped.def_vmap
def _(axis_size: int, in_batched: list[bool], condition: Array) -> tuple[Array, bool]:
    del axis_size, in_batched
    return any_vmapped(condition), False


@jax.custom_batching.custom_vmap
def max_vmapped(x: Array) -> Array:
    """The maximum, over the axes of every enclosing ``vmap`` too: a loop bound that stays scalar.

    >>> jax.vmap(max_vmapped)(jnp.array([1, 3])).tolist()
    [3, 3]
    """
    return jnp.max(x)


@max_vmapped.def_vmap
def _(axis_size: int, in_batched: list[bool], x: Array) -> tuple[Array, bool]:
    del axis_size, in_batched
    return max_vmapped(x), False
