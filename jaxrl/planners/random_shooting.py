"""Random shooting: the best of many random action sequences."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.planners import base, sequences
from jaxrl.planners.base import Plan, Score
from jaxrl.signature import extends
from jaxrl.types import Array, Box, Discrete, Model, PyTree


@extends(base.plan)
def random_shooting(
    key: Array,
    params: PyTree,
    model: Model,
    state: PyTree,
    *,
    space: Discrete | Box,
    population: int,
    **problem: Any,
) -> Plan:
    """The best of N uniformly sampled sequences and the warm start.

    ``argmax_i sum_t gamma^t r(s_t, a_it)``. Nagabandi et al. 2018, arXiv:1708.02596, section IV.C.

    Args:
      key: one key, or one for each state ``[B]``.
      params: of the model, ``()`` for the true simulator.
      model: what to plan in; of one player.
      state: states of the model, leaves ``[B, ...]``.
      space: of the actions, ``spec.action``.
      population: N, candidates of an iteration.

    Returns:
      A ``Plan``; the return of its sequence is simulated again, which gives another value in a stochastic model.

    Raises:
      TypeError, ValueError: an argument has the wrong type or shape or is outside its range; the message names it.
    """

    def improve(key: Array, score: Score, start: Array) -> Array:
        draw_key, score_key = jax.random.split(key)
        candidates = sequences.uniform(draw_key, space, start.shape[0], population)
        return candidates[jnp.argmax(score(score_key, candidates)[0])][None]

    return base.plan(improve, key, params, model, state, space=space, population=population, **problem)
