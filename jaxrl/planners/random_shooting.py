"""Random shooting: the best of many random action sequences."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.planners import base, sequences
from jaxrl.planners.base import Plan, Score, TerminalValue
from jaxrl.types import Array, Box, Discrete, Model, PyTree


def random_shooting(
    key: Array,
    params: PyTree,
    model: Model,
    state: PyTree,
    *,
    space: Discrete | Box,
    horizon: int,
    population: int,
    warm_start: Array | None = None,
    action_mask: Array | None = None,
    terminal_value: TerminalValue | None = None,
    gamma: Any = 1.0,
    num_particles: int = 1,
) -> Plan:
    """The best of N uniformly sampled sequences and the warm start.

    ``argmax_i sum_t gamma^t r(s_t, a_it)``. Nagabandi et al. 2018, arXiv:1708.02596, section IV.C.

    Args:
      key, params, model, state, space, horizon, population, warm_start, action_mask, terminal_value, gamma,
        num_particles: see ``PlanFn``.

    Returns:
      A ``Plan``; the return of its sequence is simulated again, which gives another value in a stochastic model.

    Raises:
      TypeError, ValueError: an argument has the wrong type or shape or is outside its range; the message names it.
    """

    def improve(key: Array, score: Score, start: Array) -> Array:
        draw_key, score_key = jax.random.split(key)
        candidates = sequences.uniform(draw_key, space, horizon, population)
        return candidates[jnp.argmax(score(score_key, candidates)[0])][None]

    return base.plan(
        improve,
        key,
        params,
        model,
        state,
        space=space,
        horizon=horizon,
        population=population,
        warm_start=warm_start,
        action_mask=action_mask,
        terminal_value=terminal_value,
        gamma=gamma,
        num_particles=num_particles,
    )
