"""Values by rollouts: a simulator without a network becomes a model to search in."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.arguments import check_callable, check_count
from jaxrl.ops import across, numerics
from jaxrl.search.base import RecurrentFn, RecurrentFnOutput, RootFnOutput
from jaxrl.search.choice import mask_logits, of_step
from jaxrl.types import Array, PyTree


def with_rollouts(simulator: RecurrentFn, max_steps: int) -> RecurrentFn:
    """A model whose value is the return of one episode of random legal actions and whose prior is uniform.

    ``v = sum_k (prod_{i<k} discount_i) r_k``, up to ``max_steps`` or until all discounts are 0.

    Args:
      simulator: a ``RecurrentFn``. Reward, discount and ``invalid_actions`` of its output are read, the shape of its
        logits gives the number of actions, and its value bootstraps after the last step unless the game is over.
      max_steps: the length of the longest rollout.

    Returns:
      A ``recurrent_fn`` for ``uct``.

    Raises:
      TypeError, ValueError: an argument is invalid; the message names it.
    """
    check_callable("simulator", simulator, "a model (params, key, action, embedding) -> (output, embedding)")
    check_count("max_steps", max_steps)

    def model(params: PyTree, key: Array, action: Array, embedding: PyTree) -> tuple[RecurrentFnOutput, PyTree]:
        step_key, rollout_key = jax.random.split(key)
        step, embedding = simulator(params, step_key, action, embedding)
        output = _as_output(step)
        value = _rollout(rollout_key, params, simulator, max_steps, output, embedding)
        return output._replace(value=value, prior_logits=jnp.zeros_like(output.prior_logits)), embedding

    return model


def rollout_root(embedding: PyTree, num_actions: int) -> RootFnOutput:
    """The root of a search by rollouts, with a uniform prior and a value of 0, which counts as one visit.

    Args:
      embedding: leaves ``[B, ...]``, the simulator's states.
      num_actions: A.
    """
    check_count("num_actions", num_actions)
    batch = jax.tree.leaves(embedding)[0].shape[0]
    return RootFnOutput(jnp.zeros((batch, num_actions), jnp.float32), jnp.zeros((batch,), jnp.float32), embedding)


def _as_output(step: Any) -> RecurrentFnOutput:
    """The output of a simulator, mctx's type included, in one dtype, at least float32."""
    dtype = numerics.wide(step.reward, step.discount, step.value)
    reward, discount, value = (x.astype(dtype) for x in (step.reward, step.discount, step.value))
    return RecurrentFnOutput(reward, discount, step.prior_logits, value, of_step(step))


def _rollout(
    key: Array, params: PyTree, simulator: RecurrentFn, max_steps: int, step: RecurrentFnOutput, embedding: PyTree
) -> Array:
    """The return ``[B]`` behind a step."""

    def going(carry: tuple[Array, Array, Array, Any, PyTree]) -> Array:
        count, _, weight, _, _ = carry
        return (count < max_steps) & across.any_vmapped(weight != 0)

    def forward(carry: tuple[Array, Array, Array, Any, PyTree]) -> tuple[Array, Array, Array, Any, PyTree]:
        count, value, weight, step, embedding = carry
        action_key, step_key = jax.random.split(jax.random.fold_in(key, count))
        logits = mask_logits(jnp.zeros_like(step.prior_logits), step.invalid_actions)
        action = jax.random.categorical(action_key, logits).astype(jnp.int32)
        output, embedding = simulator(params, step_key, action, embedding)
        after = _as_output(output)
        return count + 1, value + weight * after.reward, weight * after.discount, after, embedding

    weight = jnp.where(step.discount != 0, 1.0, 0.0).astype(step.value.dtype)
    start = (jnp.zeros((), jnp.int32), jnp.zeros_like(step.value), weight, step, embedding)
    _, value, weight, step, _ = jax.lax.while_loop(going, forward, start)
    return value + weight * step.value
