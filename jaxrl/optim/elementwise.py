"""The optimizers that recipes use by default: a global-norm clip, then Adam or RMSProp, on one flat vector."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl.ops import numerics
from jaxrl.optim.averaged import averaged

MakeOptimizer = Callable[[Any], optax.GradientTransformation]

ADAM: MakeOptimizer = partial(optax.adam, eps=1e-5)
"""With the epsilon of PPO's reference implementations."""

RMSPROP: MakeOptimizer = partial(optax.rmsprop, decay=0.99, eps=1e-5, eps_in_sqrt=False)
"""As A2C's reference implementations have it."""

ELEMENTWISE: tuple[Any, ...] = (ADAM, RMSPROP, optax.adam, optax.adamw, optax.rmsprop, optax.sgd)
"""Optimizers that treat every element of every parameter alike, and so may see them as one vector."""


def annealed(start: Any, num_updates: Any, steps_per_update: int = 1) -> Callable[[jax.Array], jax.Array]:
    """``start * (1 - updates / num_updates)``, never below zero, ``updates = steps // steps_per_update``.

    Start and num_updates may be tracers. An optimizer counts its gradient steps, of which an update takes several.
    """
    if num_updates is None:
        raise ValueError("num_updates: got None, annealing needs the number of updates to anneal over")

    def schedule(steps: jax.Array) -> jax.Array:
        updates = jnp.asarray(steps // steps_per_update, jnp.float32)
        return start * jnp.clip(1.0 - updates / num_updates, 0.0, 1.0)

    return schedule


def rate_at(rate: Any, steps: Any) -> jax.Array:
    """The learning rate after a count of gradient steps, float32: of a number, a tracer, or a schedule."""
    return jnp.asarray(rate(steps) if callable(rate) else rate, jnp.float32)


def clipped(make: MakeOptimizer, learning_rate: Any, max_grad_norm: Any = None) -> optax.GradientTransformation:
    """The global-norm clip, then ``make(learning_rate)``; before both, the mean over devices (``averaged``).

    Args:
      make: from a learning rate to an optax optimizer. One of ``ELEMENTWISE`` runs on a single flat vector, the
        same numbers in a few kernels instead of a few a parameter; any other sees the parameters as they are.
      learning_rate: a number, a tracer, or a schedule.
      max_grad_norm: the gradient's global norm is clipped to it; None for no clip.
    """
    optimizer = make(learning_rate)
    if max_grad_norm is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(max_grad_norm), optimizer)
    optimizer = _in_float32(optimizer)
    # One flat vector is one all-reduce, too.
    return optax.flatten(averaged(optimizer)) if make in ELEMENTWISE else averaged(optimizer)


def _in_float32(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """``inner`` in float32 at least: in float16 the square of 256 overflows, and an epsilon of 1e-5 is 0.

    A float32 gradient whose squares overflow, from 1.8e19 on, is clipped to 0.
    """
    optimizer = optax.with_extra_args_support(inner)

    def widened(tree: Any) -> Any:
        return jax.tree.map(lambda x: x.astype(numerics.wide(x)), tree)

    def init_fn(params: Any) -> Any:
        return optimizer.init(widened(params))

    def update_fn(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        steps, state = optimizer.update(widened(updates), state, widened(params), **extra)
        return jax.tree.map(lambda step, gradient: step.astype(gradient.dtype), steps, updates), state

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)
