"""Observations of positions of a game, and the actions of trained agents there.

Legend of shapes: P positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import envs
from jaxrl.envs.wrappers import select
from jaxrl.rollout import reset
from jaxrl.runs.building import Built

AT_ONCE = 512
"""Positions that are searched side by side."""


def observe(env: Any, params: Any, lines: Sequence[Sequence[int]]) -> Any:
    """The observations ``[P]``, simulator states inside, after lines of play from the start of the game."""
    env = envs.expose_state(env)
    longest, count = max(map(len, lines)), len(lines)
    moves, on = np.zeros((longest, count), np.int32), np.zeros((longest, count), bool)
    for number, line in enumerate(lines):
        moves[: len(line), number], on[: len(line), number] = line, True

    def body(carry: Any, step: Any) -> Any:
        action, on, key = step
        keys = jax.random.split(key, count)
        observation, state, *_ = jax.vmap(env.step, (0, 0, 0, None))(keys, carry[1], action, params)
        return jax.vmap(select)(on, (observation, state), carry), None

    @jax.jit
    def walk(key: Any, moves: Any, on: Any) -> Any:
        reset_key, *keys = jax.random.split(key, 1 + longest)
        start = reset(reset_key, env, params, count)
        return jax.lax.scan(body, jax.tree.map(jnp.asarray, start), (moves, on, jnp.stack(keys)))[0][0]

    return walk(jax.random.key(0), moves, on)


def make_decide(built: Built) -> Callable[[Any, int, Any], np.ndarray]:
    """``decide(states, member, observations [P], seed) -> actions [P]``: what a member of a run does there."""

    @jax.jit
    def act(key: Any, hyper: Any, state: Any, observation: Any) -> Any:
        return built.make_agent(**hyper).act(key, state, observation, explore=False)[0]

    def decide(states: Any, member: int, observations: Any, seed: int = 0) -> np.ndarray:
        hyper, state = jax.tree.map(lambda leaf: leaf[member], (built.hyper, states))
        count = len(jax.tree.leaves(observations)[0])
        actions = []
        for start in range(0, count, AT_ONCE):
            # The last batch is filled up with what is there, so that one program does for all.
            index = np.minimum(np.arange(start, start + AT_ONCE), count - 1)
            key = jax.random.fold_in(jax.random.key(seed), start)
            actions.append(act(key, hyper, state, jax.tree.map(lambda leaf: leaf[index], observations)))  # noqa: B023
        return np.concatenate(actions)[:count]

    return decide
