"""One gradient step, as a function of parameters, optimizer state and a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import optax
from jax.flatten_util import ravel_pytree

from jaxrl.types import Array, Metrics, PyTree

Batch = TypeVar("Batch")


class Learned(NamedTuple):
    """The state of a gradient step: parameters, and the state of their optimizer."""

    params: PyTree
    optimizer_state: PyTree


LossFn = Callable[[PyTree, Any, Array], tuple[Array, Metrics]]
"""``(params, batch, key) -> (loss, metrics)``."""

StepFn = Callable[[Learned, Any, Array], tuple[Learned, Metrics]]
"""``(learned, batch, key) -> (learned, metrics)``."""


DROPOUT = 0xD80


def dropout_key(key: Array) -> Array:
    """The key for torsos with dropout, folded from the key of a gradient step or of an epoch."""
    return jax.random.fold_in(key, DROPOUT)


def gradient_norm(grads: PyTree) -> Array:
    """The global norm of a gradient, computed on one flat vector as the clip does, so that XLA computes it once."""
    return optax.tree.norm(ravel_pytree(grads)[0])


def apply(optimizer: optax.GradientTransformation, learned: Learned, grads: PyTree) -> Learned:
    """One step of the optimizer."""
    updates, optimizer_state = optimizer.update(grads, learned.optimizer_state, learned.params)
    return Learned(optax.apply_updates(learned.params, updates), optimizer_state)


def gradient_step(optimizer: optax.GradientTransformation, loss: LossFn) -> StepFn:
    """The function that takes one step of the optimizer down the gradient of a loss.

    Args:
      optimizer: optax optimizer that includes the clip and the mean over devices (``optim.clipped``).
      loss: ``(params, batch, key) -> (scalar, metrics)``.

    Returns:
      ``(learned, batch, key) -> (learned, metrics)``, metrics with ``loss`` and ``gradient_norm``.
    """

    def step(learned: Learned, batch: Any, key: Array) -> tuple[Learned, Metrics]:
        (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(learned.params, batch, key)
        stepped = apply(optimizer, learned, grads)
        return stepped, {"loss": value, **metrics, "gradient_norm": gradient_norm(grads)}

    return step
