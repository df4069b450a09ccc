"""The cross-entropy method: a distribution over action sequences, fitted to its best samples."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.arguments import NON_NEGATIVE, UNIT, check_count, check_float
from jaxrl.planners import base, sequences
from jaxrl.planners.base import Plan, Score
from jaxrl.signature import extends
from jaxrl.types import Array, Box, Discrete, Model, PyTree


@extends(base.plan)
def cem(
    key: Array,
    params: PyTree,
    model: Model,
    state: PyTree,
    *,
    space: Discrete | Box,
    population: int,
    num_iterations: int = 5,
    num_elites: int | None = None,
    alpha: float = 0.1,
    initial_std: float = 0.5,
    min_std: float = 0.05,
    **problem: Any,
) -> Plan:
    """The cross-entropy method: N samples per iteration; mean and standard deviation are fitted to the best E.

    ``mean <- alpha mean + (1 - alpha) mean of elites``, and the same for the standard deviation, with a lower bound.
    Rubinstein and Kroese 2004, "The cross-entropy method"; for control Chua et al. 2018, arXiv:1805.12114, section 5.
    Discrete actions have a categorical distribution at each step, fitted to the frequencies of actions among the
    elites. The plan is the mean of the iteration whose mean has the highest return.

    Args:
      key: one key, or one for each state ``[B]``.
      params: of the model, ``()`` for the true simulator.
      model: what to plan in; of one player.
      state: states of the model, leaves ``[B, ...]``.
      space: of the actions, ``spec.action``.
      population: N, candidates of an iteration.
      num_iterations: number of fits of the distribution.
      num_elites: E; None for a tenth of the population. Elites must have finite returns.
      alpha: weight of the old distribution, in [0, 1].
      initial_std: initial standard deviation, in units of the bounds; for discrete actions the fraction of uniform
        ones.
      min_std: lower bound of the standard deviation.

    Raises:
      TypeError, ValueError: an argument has the wrong type or shape or is outside its range; the message names it.
    """
    check_count("num_iterations", num_iterations)
    check_count("population", population)
    elites = max(1, population // 10) if num_elites is None else num_elites
    check_count("num_elites", elites)
    if elites > population:
        raise ValueError(f"num_elites: got {elites}, must be at most population={population}")
    check_float("alpha", alpha, UNIT)
    check_float("initial_std", initial_std, NON_NEGATIVE)
    check_float("min_std", min_std, NON_NEGATIVE)

    def improve(key: Array, score: Score, start: Array) -> Array:
        def iterate(carry: tuple[Array, Array], key: Array) -> tuple[tuple[Array, Array], Array]:
            sequence, std = carry
            draw_key, score_key = jax.random.split(key)
            candidates = sequences.propose(draw_key, space, sequence, std, population)
            returns, taken = score(score_key, candidates)
            best, index = jax.lax.top_k(returns, elites)
            sound = jnp.isfinite(best)
            weights = sound / jnp.maximum(sound.sum(), 1)
            fitted = sequences.mean(space, taken[index], weights)
            variance = jnp.tensordot(weights, (taken[index] - fitted[None]) ** 2, axes=1)
            # Discrete actions: the categorical distribution has its own spread; only the fraction of uniform actions
            # falls.
            deviation = jnp.zeros_like(std) if isinstance(space, Discrete) else jnp.sqrt(variance)
            moved = (
                sequences.blend(space, sequence, fitted, alpha),
                jnp.maximum(alpha * std + (1.0 - alpha) * deviation, min_std),
            )
            carry = jax.tree.map(lambda new, old: jnp.where(sound.any(), new, old).astype(jnp.float32), moved, carry)
            return carry, carry[0]

        std = jnp.full(start.shape, jnp.maximum(initial_std, min_std), jnp.float32)
        return jax.lax.scan(iterate, (start, std), jax.random.split(key, num_iterations))[1]

    return base.plan(improve, key, params, model, state, space=space, population=population, **problem)
