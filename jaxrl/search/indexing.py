"""Reads and writes of a few nodes of every tree, and predicates that stay scalar under ``vmap``."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.types import Array


@jax.custom_batching.custom_vmap
def anywhere(condition: Array) -> Array:
    """Whether any element is true, over the axes of every enclosing ``vmap`` too.

    A ``while_loop`` whose condition differs along a vmapped axis selects between the old and the new carry at every
    step. With this condition it doesn't, so the body must leave finished elements unchanged.
    """
    return jnp.any(condition)


@anywhere.def_vmap
def _(axis_size: int, in_batched: list[bool], condition: Array) -> tuple[Array, bool]:
    del axis_size, in_batched
    return anywhere(condition), False


@jax.custom_batching.custom_vmap
def highest(x: Array) -> Array:
    """The maximum, over the axes of every enclosing ``vmap`` too: a loop bound that stays scalar."""
    return jnp.max(x)


@highest.def_vmap
def _(axis_size: int, in_batched: list[bool], x: Array) -> tuple[Array, bool]:
    del axis_size, in_batched
    return highest(x), False


def take(x: Array, node: Array) -> Array:
    """``x[b, node[b, ...]]`` for ``x`` ``[B, N, ...]``; an index outside of ``[0, N)`` is clipped."""
    return jax.vmap(lambda row, i: row.at[i].get(mode="clip"))(x, node)


def put(x: Array, node: Array, values: Array) -> Array:
    """``x[b, node[b, ...]] = values[b, ...]``; nothing is written where the index is N or more."""
    return jax.vmap(lambda row, i, v: row.at[i].set(v.astype(row.dtype), mode="drop"))(x, node, values)


def take_entry(x: Array, node: Array, action: Array) -> Array:
    """``x[b, node[b, ...], action[b, ...]]`` for ``x`` ``[B, N, A]``; otherwise like ``take``."""
    return jax.vmap(lambda row, i, a: row.at[i, a].get(mode="clip"))(x, node, action)


def put_entry(x: Array, node: Array, action: Array, values: Array) -> Array:
    """``x[b, node[b, ...], action[b, ...]] = values[b, ...]`` for ``x`` ``[B, N, A]``; otherwise like ``put``."""
    return jax.vmap(lambda row, i, a, v: row.at[i, a].set(v.astype(row.dtype), mode="drop"))(x, node, action, values)


def take_listed(x: Array, *index: Array) -> Array:
    """``x[tree[k], node[k], ...]`` for a list of nodes ``[K]`` of any trees; otherwise like ``take``."""
    return x.at[index].get(mode="clip")


def put_listed(x: Array, values: Array, *index: Array) -> Array:
    """``x[tree[k], node[k], ...] = values[k]`` for a list of nodes ``[K]`` of any trees; otherwise like ``put``."""
    return x.at[index].set(values.astype(x.dtype), mode="drop")
