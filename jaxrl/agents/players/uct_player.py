"""A player by plain tree search with random games: the baseline of AlphaZero."""

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
    """The textbook's player: UCT in the true simulator, values by one random game each, no network.

    Kocsis and Szepesvari, "Bandit based Monte-Carlo planning", 2006; see ``search.uct``. It takes the most visited
    action, and one of them at random where several are, exploring or not.

    Args:
      spec: what is known of the environment; its actions are discrete.
      model: ``envs.simulator(env, params)``; observations have to come from ``envs.expose_state(env)``.
      num_simulations: random games for each move.
      exploration: the factor of ``sqrt(log n / n(a))``.
      max_steps: the longest random game, in moves.

    Raises:
      TypeError, ValueError: naming the argument, what was given, and what is allowed.
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
