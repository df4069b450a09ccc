"""Gradients that arrive late: asynchrony on paper, deterministic and vmappable."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


class DelayedState(NamedTuple):
    """Gradients under way.

    Attributes:
      ring: of each leaf the last ``max_delay`` gradients, ``[max_delay, ...]``; () without a delay.
      updates: int32, gradients taken in so far.
      inner: the state of what they go to.
    """

    ring: Any
    updates: jax.Array
    inner: Any


def delayed(
    k: Any, inner: optax.GradientTransformation | None = None, *, max_delay: int | None = None
) -> optax.GradientTransformationExtraArgs:
    """``inner`` on the gradient of k updates ago, as of a worker that k others overtook.

    ``theta_{t+1} = theta_t + inner(g_{t-k})``, where ``g_s`` was computed at ``theta_s``. The first k updates are 0,
    and leave the state of ``inner`` as it is. With k = 0 it is ``inner``, bit for bit.

    Args:
      k: whole number of updates, at least 0; may be a tracer of at most ``max_delay``, to vmap over.
      inner: what late gradients go to; None hands them on. In a chain, what follows sees zeros in the first k updates,
        which an optimizer with a memory counts; as ``inner``, it does not.
      max_delay: gradients that are kept, which takes as many times the memory of the parameters. None is k.

    Raises:
      TypeError, ValueError: a k that is no whole number from 0 to ``max_delay``, or a tracer without ``max_delay``.
    """
    size = _size(k, max_delay)
    optimizer = optax.with_extra_args_support(optax.identity() if inner is None else inner)

    def init_fn(params: Any) -> DelayedState:
        ring = jax.tree.map(lambda p: jnp.zeros((size, *jnp.shape(p)), jnp.result_type(p)), params) if size else ()
        return DelayedState(ring, jnp.zeros((), jnp.int32), optimizer.init(params))

    def update_fn(updates: Any, state: DelayedState, params: Any = None, **extra: Any) -> tuple[Any, DelayedState]:
        if not size:
            stepped, new_inner = optimizer.update(updates, state.inner, params, **extra)
            return stepped, DelayedState((), state.updates + 1, new_inner)
        # Read before it is written over: of k = size the oldest, in this very place.
        place, write = (state.updates - k) % size, state.updates % size
        late = jax.tree.map(lambda ring, new: jnp.where(k == 0, new, ring[place]), state.ring, updates)
        ring = jax.tree.map(lambda ring, new: ring.at[write].set(new), state.ring, updates)
        stepped, new_inner = optimizer.update(late, state.inner, params, **extra)
        ready = state.updates >= k
        stepped = jax.tree.map(lambda step: jnp.where(ready, step, jnp.zeros_like(step)), stepped)
        new_inner = jax.tree.map(lambda new, old: jnp.where(ready, new, old), new_inner, state.inner)
        return stepped, DelayedState(ring, state.updates + 1, new_inner)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _size(k: Any, max_delay: int | None) -> int:
    """Places in the ring; checks both."""
    whole = lambda x: isinstance(x, (int, np.integer)) and not isinstance(x, bool)  # noqa: E731
    if max_delay is not None and not whole(max_delay):
        raise TypeError(f"max_delay: got {max_delay!r}, must be a whole number or None")
    if isinstance(k, jax.core.Tracer):
        if max_delay is None:
            raise ValueError("max_delay: a traced delay needs the number of gradients to keep, got None")
        return max(int(max_delay), 0)
    is_array = isinstance(k, (jax.Array, np.ndarray)) and k.ndim == 0 and np.issubdtype(k.dtype, np.integer)
    if not whole(k) and not is_array:
        raise TypeError(f"delay: got {k!r}, must be a whole number")
    if int(k) < 0:
        raise ValueError(f"delay: got {int(k)}, must be at least 0")
    if max_delay is not None and int(k) > max_delay:
        raise ValueError(f"delay: got {int(k)}, must be at most max_delay = {max_delay}")
    return int(k) if max_delay is None else int(max_delay)
