"""Gradient steps with a target network, and updates of the target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.agents.parts.gradients import gradient_norm
from jaxrl.replay import Sample
from jaxrl.types import Array, Metrics, PyTree

LossFn = Callable[[PyTree, PyTree, Array, Sample], tuple[Array, tuple[Array, Metrics]]]
"""``(params, target_params, key, sample) -> (loss, (priorities [N], metrics))``."""


class Learner(NamedTuple):
    """The state of gradient steps.

    Attributes:
      params: parameters of the networks.
      target_params: parameters of the target networks.
      optimizer_state: state of the optax optimizer.
      gradient_steps: int32, number of gradient steps so far.
    """

    params: PyTree
    target_params: PyTree
    optimizer_state: PyTree
    gradient_steps: Array


def init(params: PyTree, optimizer: optax.GradientTransformation) -> Learner:
    """The initial learner; the target is a copy of the parameters."""
    return Learner(params, jax.tree.map(jnp.copy, params), optimizer.init(params), jnp.zeros((), jnp.int32))


def follow(params: PyTree, target_params: PyTree, tau: Any, gradient_steps: Any = 0, interval: int = 1) -> PyTree:
    """``theta' <- tau theta + (1 - tau) theta'`` at every ``interval``-th gradient step, else ``theta'``.

    ``tau`` 1 with a long interval is the periodic copy of Mnih et al. 2015; a small ``tau`` with interval 1 is the
    Polyak average of Lillicrap et al. 2016.

    Args:
      params: theta.
      target_params: theta', of the same structure.
      tau: may be a tracer.
      gradient_steps: number of steps, including this one.
      interval: Python int.
    """
    moved = optax.incremental_update(params, target_params, tau)
    if interval == 1:
        return moved
    return jax.tree.map(lambda new, old: jnp.where(gradient_steps % interval == 0, new, old), moved, target_params)


def apply(
    optimizer: optax.GradientTransformation, learner: Learner, grads: PyTree, tau: Any, interval: int = 1
) -> Learner:
    """One step of the optimizer, then one update of the target; see ``follow``."""
    updates, optimizer_state = optimizer.update(grads, learner.optimizer_state, learner.params)
    params = optax.apply_updates(learner.params, updates)
    gradient_steps = learner.gradient_steps + 1
    target_params = follow(params, learner.target_params, tau, gradient_steps, interval)
    return Learner(params, target_params, optimizer_state, gradient_steps)


def gradient_step(
    optimizer: optax.GradientTransformation, loss: LossFn, tau: Any, interval: int = 1
) -> Callable[[Array, Learner, Sample], tuple[Learner, Array, Metrics]]:
    """The function that takes one gradient step on a loss and updates the target; see ``follow``.

    Args:
      optimizer: optax optimizer that includes the clip and the mean over devices (``optim.clipped``).
      loss: ``(params, target_params, key, sample) -> (scalar, (priorities [N], metrics))``.
      tau: may be a tracer.
      interval: Python int.

    Returns:
      ``(key, learner, sample) -> (learner, priorities [N], metrics)``, metrics with ``loss`` and ``gradient_norm``.
    """

    def step(key: Array, learner: Learner, sample: Sample) -> tuple[Learner, Array, Metrics]:
        gradient = jax.value_and_grad(loss, has_aux=True)
        (value, (priorities, metrics)), grads = gradient(learner.params, learner.target_params, key, sample)
        metrics = {"loss": value, **metrics, "gradient_norm": gradient_norm(grads)}
        return apply(optimizer, learner, grads, tau, interval), priorities, metrics

    return step
