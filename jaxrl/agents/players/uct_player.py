"""A player by UCT with random rollouts, a baseline for AlphaZero."""

from __future__ import annotations

from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxrl import search
from jaxrl.agents.parts import planning
from jaxrl.agents.players import base
from jaxrl.arguments import Count, NonNegative
from jaxrl.search import models
from jaxrl.signature import recipe
from jaxrl.types import Agent, Array, Model, PyTree, Spec


@recipe(fills={"model": "simulator"})
def uct_player(
    spec: Spec,
    model: Annotated[Model, "a types.Model such as envs.simulator(env, params)"],
    num_simulations: Count = 100,
    *,
    exploration: NonNegative = 2.0**0.5,
    max_steps: Count = 1000,
) -> Agent:
    """UCT in the true simulator; leaves are evaluated by one random rollout each, without a network.

    Kocsis and Szepesvari, "Bandit based Monte-Carlo planning", 2006; see ``search.uct``. It takes the most visited
    action, ties broken at random, with and without ``explore``.

    Args:
      spec: the environment's spec; its actions are discrete.
      model: ``envs.simulator(env, params)``; observations have to come from ``envs.expose_state(env)``.
      num_simulations: simulations per move, with one random rollout each.
      exploration: factor of ``sqrt(log n / n(a))``.
      max_steps: largest number of moves of a random rollout.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is outside its range; the message names it.
    """
    num_actions = base.num_actions("uct_player", spec)

    def evaluate(params: PyTree, observation: Any) -> tuple[Array, Array]:
        del params
        batch = jax.tree.leaves(observation)[0].shape[0]
        return jnp.zeros((batch, num_actions), jnp.float32), jnp.zeros(batch, jnp.float32)

    recurrent_fn = search.with_rollouts(models.recurrent_fn(model, evaluate), max_steps)

    def act(key: Array, state: PyTree, observation: Any, *, explore: bool = True) -> tuple[Array, Any]:
        del explore
        params = models.Params(state, ())
        root = models.root(evaluate, params, planning.true_state(observation), observation)
        illegal = models.invalid_actions(observation)
        found = search.uct(key, params, root, recurrent_fn, num_simulations, illegal, exploration=exploration)
        return found.action, ()

    return base.player(act, lambda key, num_envs=1: model.init(key))
