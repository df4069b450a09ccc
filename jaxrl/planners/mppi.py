"""MPPI: model-predictive path integral control, a mean of samples weighted by exponentiated returns."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.arguments import NON_NEGATIVE, POSITIVE, check_count, check_float
from jaxrl.planners import base, sequences
from jaxrl.planners.base import Plan, Score
from jaxrl.signature import extends
from jaxrl.types import Array, Box, Discrete, Model, PyTree


@extends(base.plan)
def mppi(
    key: Array,
    params: PyTree,
    model: Model,
    state: PyTree,
    *,
    space: Discrete | Box,
    population: int,
    num_iterations: int = 3,
    sigma: float = 0.5,
    temperature: float = 1.0,
    **problem: Any,
) -> Plan:
    """Model-predictive path integral control: ``mean <- sum_i w_i a_i``, ``w = softmax(R / temperature)``.

    Williams et al. 2017, "Information theoretic MPC for model-based reinforcement learning". The control cost
    ``lambda u^T Sigma^-1 eps`` is left out; put such costs into the reward. Discrete actions have a categorical
    distribution at each step, fitted to the weighted frequencies of actions. The plan is the mean with the highest
    return.

    Args:
      key: one key, or one for each state ``[B]``.
      params: of the model, ``()`` for the true simulator.
      model: what to plan in; of one player.
      state: states of the model, leaves ``[B, ...]``.
      space: of the actions, ``spec.action``.
      population: N, candidates of an iteration.
      num_iterations: number of updates of the mean.
      sigma: standard deviation of the noise, in units of the bounds; for discrete actions the fraction of uniform ones.
      temperature: lambda, in units of returns; close to 0 only the best candidate counts.

    Raises:
      TypeError, ValueError: an argument has the wrong type or shape or is outside its range; the message names it.
    """
    check_count("num_iterations", num_iterations)
    check_float("sigma", sigma, NON_NEGATIVE)
    check_float("temperature", temperature, POSITIVE)

    def improve(key: Array, score: Score, start: Array) -> Array:
        def iterate(sequence: Array, key: Array) -> tuple[Array, Array]:
            draw_key, score_key = jax.random.split(key)
            spread = jnp.full(start.shape, sigma, jnp.float32)
            returns, taken = score(score_key, sequences.propose(draw_key, space, sequence, spread, population))
            sound = jnp.isfinite(returns)
            # Subtracting the highest return prevents overflow; if no return is finite, all weights are 0.
            highest = jnp.where(sound.any(), returns.max(), 0.0)
            weights = jnp.where(sound, jnp.exp((returns - highest) / temperature), 0.0)
            weights = weights / jnp.maximum(weights.sum(), 1.0)  # the highest return has weight 1
            moved = sequences.blend(space, sequence, sequences.mean(space, taken, weights), 0.0)
            sequence = jnp.where(sound.any(), moved, sequence).astype(jnp.float32)
            return sequence, sequence

        return jax.lax.scan(iterate, start, jax.random.split(key, num_iterations))[1]

    return base.plan(improve, key, params, model, state, space=space, population=population, **problem)
