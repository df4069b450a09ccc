"""Delayed gradients: a deterministic, vmappable model of asynchronous training."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrl.arguments import check_count


class DelayedState(NamedTuple):
    """The state of ``delayed``: the gradients that were computed and not applied yet.

    Attributes:
      ring: ring buffer of the last ``max_delay`` gradients, leaves ``[max_delay, ...]``; () without a delay.
      updates: int32, number of gradients received so far.
      inner: the state of the inner transformation.
    """

    ring: Any
    updates: jax.Array
    inner: Any


def delayed(
    delay: Any, inner: optax.GradientTransformation | None = None, *, max_delay: int | None = None
) -> optax.GradientTransformationExtraArgs:
    """Applies ``inner`` to the gradient of k updates ago, as an asynchronous worker with a delay of k does.

    ``theta_{t+1} = theta_t + inner(g_{t-k})``, where ``g_s`` was computed at ``theta_s``. The first k updates are 0
    and do not change the state of ``inner``. With k = 0 it equals ``inner`` bit for bit.

    Args:
      delay: k, a number of updates, at least 0; may be a tracer, for example to vmap over delays, and is then clipped
        to ``max_delay``.
      inner: transformation of the delayed gradients; None returns them. In an optax chain, later transformations see
        zeros in the first k updates, which changes the state of Adam, for example; ``inner`` does not see them.
      max_delay: number of gradients kept, each as large as the parameters; None for k.

    Raises:
      TypeError, ValueError: ``delay`` is not an integer from 0 to ``max_delay``, or a tracer without ``max_delay``.
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
        # Read first: for k = size the oldest gradient is in the place that is overwritten next.
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
    """The size of the ring buffer; checks both arguments."""
    if max_delay is not None:
        check_count("max_delay", max_delay, least=0)
    if isinstance(delay, jax.core.Tracer):
        if max_delay is None:
            raise ValueError("max_delay: got None, must be the number of gradients to keep, since delay is a tracer")
        return int(max_delay)
    is_array = isinstance(delay, (jax.Array, np.ndarray)) and delay.ndim == 0 and np.issubdtype(delay.dtype, np.integer)
    check_count("delay", int(delay) if is_array else delay, least=0)
    if max_delay is not None and int(delay) > max_delay:
        raise ValueError(f"delay: got {int(delay)}, must be at most max_delay={max_delay}")
    return int(delay) if max_delay is None else int(max_delay)
