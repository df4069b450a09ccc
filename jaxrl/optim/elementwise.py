"""Default optimizers of recipes: a global-norm clip, then Adam or RMSProp, on one flat vector."""

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
"""Adam with the epsilon of PPO's reference implementations."""

RMSPROP: MakeOptimizer = partial(optax.rmsprop, decay=0.99, eps=1e-5, eps_in_sqrt=False)
"""RMSProp with the settings of A2C's reference implementations."""

ELEMENTWISE: tuple[Any, ...] = (ADAM, RMSPROP, optax.adam, optax.adamw, optax.rmsprop, optax.sgd)
"""Elementwise optimizers, which may run on one flat vector of all parameters."""


def annealed(start: Any, num_updates: Any, steps_per_update: int = 1) -> Callable[[jax.Array], jax.Array]:
    """``start * (1 - updates / num_updates)``, never below zero, ``updates = steps // steps_per_update``.

    ``start`` and ``num_updates`` may be tracers. ``steps`` counts gradient steps, several per update.
    """
    if num_updates is None:
        raise ValueError("num_updates: got None, must be the number of updates to anneal over")

    def schedule(steps: jax.Array) -> jax.Array:
        updates = jnp.asarray(steps // steps_per_update, jnp.float32)
        return start * jnp.clip(1.0 - updates / num_updates, 0.0, 1.0)

    return schedule


def rate_at(rate: Any, steps: Any) -> jax.Array:
    """The learning rate after a number of gradient steps, float32, where it is a number, a tracer, or a schedule."""
    return jnp.asarray(rate(steps) if callable(rate) else rate, jnp.float32)


def clipped(make: MakeOptimizer, learning_rate: Any, max_grad_norm: Any = None) -> optax.GradientTransformation:
    """The mean over devices (``averaged``), the global-norm clip, then ``make(learning_rate)``.

    Args:
      make: function from a learning rate to an optax optimizer. Those of ``ELEMENTWISE`` run on one flat vector, which
        gives the same numbers with fewer kernels; others get the parameters as a pytree.
      learning_rate: a number, a tracer, or a schedule.
      max_grad_norm: largest global norm of the gradient, which is clipped to it; None for no clipping.
    """
    optimizer = make(learning_rate)
    if max_grad_norm is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(max_grad_norm), optimizer)
    optimizer = _in_float32(optimizer)
    # One flat vector also needs one all-reduce only.
    return optax.flatten(averaged(optimizer)) if make in ELEMENTWISE else averaged(optimizer)


def _in_float32(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Runs ``inner`` in float32 or wider: in float16 the square of 256 overflows, and an epsilon of 1e-8 is 0.

    A float32 gradient whose squares overflow (above 1.8e19) is clipped to 0.
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
