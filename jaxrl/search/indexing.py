"""Reads and writes of a few nodes of every tree."""

from __future__ import annotations

import jax

from jaxrl.types import Array


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
