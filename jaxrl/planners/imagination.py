"""Returns of action sequences in a model, with the ends of episodes.

``sum_t gamma^t r_t + gamma^H V(o_H)``, where weights also include the discounts of the steps. Steps after a terminated
step have weight 0. The model can't continue a truncated episode: its return ends with the value of its last
observation, as in ``search.models``.

A stochastic model is sampled in P scenarios, which all candidates share: Ng and Jordan 2000, "PEGASUS",
arXiv:1301.3878.

Legend of shapes: N candidates, P particles, H steps, K numbers per step, A discrete actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl import types
from jaxrl.planners import sequences
from jaxrl.types import Array, Box, Discrete, Model, PyTree

TerminalValue = Callable[[Any], Array]
"""``observation [N, ...] -> value [N]``, in units of returns."""


class Imagined(NamedTuple):
    """A simulated rollout so far.

    Attributes:
      state: state of the model.
      mask: ``[A]`` the legal actions.
      total: the return so far.
      weight: weight of the next reward.
      is_open: bool, False after the end of the episode, where the state belongs to another episode.
      last: the last observation of this episode; () without a terminal value.
    """

    state: PyTree
    mask: Array
    total: Array
    weight: Array
    is_open: Array
    last: Any


def returns(
    key: Array,
    params: PyTree,
    model: Model,
    state: PyTree,
    mask: Array,
    candidates: Array,
    space: Discrete | Box,
    gamma: Any,
    terminal_value: TerminalValue | None,
    num_particles: int,
) -> tuple[Array, Array]:
    """Returns of candidates from one state.

    Args:
      key: consumed.
      params, model: the model and its parameters.
      state: one state of the model.
      mask: ``[A]`` the legal first actions.
      candidates: ``[N, H, K]``, see ``sequences``.
      space: action space.
      gamma: discount factor per step.
      terminal_value: see ``TerminalValue``; None for 0.
      num_particles: P.

    Returns:
      ``(returns [N], taken [N, H, K])``: returns averaged over particles, and the actions taken in the first particle,
      one-hot where they are discrete.
    """

    def run(key: Array, candidate: Array) -> tuple[Array, Array]:
        return _run(key, params, model, state, mask, candidate, space, gamma, terminal_value)

    # All candidates get the same random numbers, so that differences of returns are due to the actions.
    total, taken = jax.vmap(jax.vmap(run, (0, None)), (None, 0))(jax.random.split(key, num_particles), candidates)
    if isinstance(space, Discrete):
        return total.mean(axis=1), jax.nn.one_hot(taken[:, 0], space.num_actions, dtype=jnp.float32)
    return total.mean(axis=1), candidates


def _run(
    key: Array,
    params: PyTree,
    model: Model,
    state: PyTree,
    mask: Array,
    candidate: Array,
    space: Discrete | Box,
    gamma: Any,
    terminal_value: TerminalValue | None,
) -> tuple[Array, Array]:
    """The return of one candidate ``[H, K]``, and its actions ``[H, ...]``."""

    def step(run: Imagined, inputs: tuple[Array, Array]) -> tuple[Imagined, Any]:
        time, scores = inputs
        action = sequences.decide(space, scores, run.mask)
        simulated = model.step(params, jax.random.fold_in(key, time), run.state, action)
        legal = types.action_mask(simulated.observation)
        weight = jnp.where(run.is_open, run.weight * gamma * simulated.discount, run.weight).astype(jnp.float32)
        after = Imagined(
            state=simulated.state,
            mask=run.mask if not isinstance(space, Discrete) else jnp.ones_like(mask) if legal is None else legal,
            total=run.total + jnp.where(run.is_open, run.weight * simulated.reward, 0.0).astype(jnp.float32),
            weight=weight,
            # With weight 0 nothing is added, not even NaN; a NaN weight makes the return NaN.
            is_open=run.is_open & ~simulated.truncated & (weight != 0.0),
            last=jax.tree.map(lambda new, old: jnp.where(run.is_open, new, old), simulated.observation, run.last)
            if terminal_value is not None
            else (),
        )
        return after, action if isinstance(space, Discrete) else ()

    first = Imagined(state, mask, jnp.float32(0.0), jnp.float32(1.0), jnp.bool_(True), ())
    if terminal_value is not None:
        action = sequences.decide(space, candidate[0], mask)
        seen = jax.eval_shape(lambda: model.step(params, key, state, action).observation)
        first = first._replace(last=jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), seen))
    times = jnp.arange(candidate.shape[0], dtype=jnp.int32)
    run, taken = jax.lax.scan(step, first, (times, candidate))
    if terminal_value is None:
        return run.total, taken
    value = terminal_value(jax.tree.map(lambda x: x[None], run.last))[0]
    return run.total + jnp.where(run.weight != 0.0, run.weight * value, 0.0), taken
