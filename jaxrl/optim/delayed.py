"""Delayed gradients: a deterministic, vmappable model of asynchronous training."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrl.arguments import check_count


class DelayedState(NamedTuple):
    """Gradients under way.

    Attributes:
      ring: of each leaf the last ``max_delay`` gradients, ``[max_delay, ...]``; () without a delay.
      updates: int32, gradients taken in so far.
      inner: the state of the inner transformation.
    """

    ring: Any
    updates: jax.Array
    inner: Any


def delayed(
    delay: Any, inner: optax.GradientTransformation | None = None, *, max_delay: int | None = None
) -> optax.GradientTransformationExtraArgs:
    """``inner`` on the gradient of k updates ago, as an asynchronous worker with a delay of k sends it.

    ``theta_{t+1} = theta_t + inner(g_{t-k})``, where ``g_s`` was computed at ``theta_s``. The first k updates are 0,
    and leave the state of ``inner`` as it is. With k = 0 it is ``inner``, bit for bit.

    Args:
      delay: k, a whole number of updates, at least 0; may be a tracer, to vmap over: what is above ``max_delay`` is
        taken as ``max_delay``.
      inner: what late gradients go to; None hands them on. In a chain, what follows sees zeros in the first k updates,
        which an optimizer with a memory counts; as ``inner``, it does not.
      max_delay: gradients that are kept, which takes as many times the memory of the parameters. None is k.

    Raises:
      TypeError, ValueError: the delay is not an integer from 0 to ``max_delay``, or a tracer without ``max_delay``.
    """
    size = _size(delay, max_delay)
    delay = jnp.clip(delay, 0, size)
    optimizer = optax.with_extra_args_support(optax.identity() if inner is None else inner)

    def init_fn(params: Any) -> DelayedState:
        ring = jax.tree.map(lambda p: jnp.zeros((size, *jnp.shape(p)), jnp.result_type(p)), params) if size else ()
        return DelayedState(ring, jnp.zeros((), jnp.int32), optimizer.init(params))

    def update_fn(updates: Any, state: DelayedState, params: Any = None, **extra: Any) -> tuple[Any, DelayedState]:
        if not size:
            stepped, new_inner = optimizer.update(updates, state.inner, params, **extra)
            return stepped, DelayedState((), state.updates + 1, new_inner)
        # Read before it is written over: of k = size the oldest, in this very place.
        place, write = (state.updates - delay) % size, state.updates % size
        late = jax.tree.map(lambda ring, new: jnp.where(delay == 0, new, ring[place]), state.ring, updates)
        ring = jax.tree.map(lambda ring, new: ring.at[write].set(new), state.ring, updates)
        stepped, new_inner = optimizer.update(late, state.inner, params, **extra)
        ready = state.updates >= delay
        stepped = jax.tree.map(lambda step: jnp.where(ready, step, jnp.zeros_like(step)), stepped)
        new_inner = jax.tree.map(lambda new, old: jnp.where(ready, new, old), new_inner, state.inner)
        return stepped, DelayedState(ring, state.updates + 1, new_inner)

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def _size(delay: Any, max_delay: int | None) -> int:
    """Places in the ring; checks both."""
    if max_delay is not None:
        check_count("max_delay", max_delay, least=0)
    if isinstance(delay, jax.core.Tracer):
        if max_delay is None:
            raise ValueError("max_delay: got None, must be the number of gradients to keep where delay is a tracer")
        return int(max_delay)
    is_array = isinstance(delay, (jax.Array, np.ndarray)) and delay.ndim == 0 and np.issubdtype(delay.dtype, np.integer)
    check_count("delay", int(delay) if is_array else delay, least=0)
    if max_delay is not None and int(delay) > max_delay:
        raise ValueError(f"delay: got {int(delay)}, must be at most max_delay, {max_delay}")
    return int(delay) if max_delay is None else int(max_delay)
