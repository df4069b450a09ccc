"""Players that learn nothing: a random one, and plain tree search by rollouts. What a learned one is measured against.

Legend of shapes: B environments, A actions.
"""

from __future__ import annotations

from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxrl import search
from jaxrl.agents.parts import planning
from jaxrl.agents.parts.recurrent import check_no_memory
from jaxrl.agents.signature import recipe
from jaxrl.arguments import Count, NonNegative
from jaxrl.search import models
from jaxrl.types import ActFn, Agent, Array, Discrete, InitFn, Metrics, Model, PyTree, Spec, Transition, action_mask


@recipe
def random_player(spec: Spec) -> Agent:
    """Takes any legal action, each as likely as the others, exploring or not.

    Args:
      spec: what is known of the environment; its actions are discrete.

    Raises:
      TypeError: actions that are not discrete.
    """
    num_actions = _num_actions("random_player", spec)

    def act(key: Array, state: PyTree, observation: Any, *, explore: bool = True) -> tuple[Array, Any]:
        del state, explore
        return jax.random.categorical(key, _legal_logits(observation, num_actions)).astype(jnp.int32), ()

    return _player(act)


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
    num_actions = _num_actions("uct_player", spec)

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

    return _player(act, lambda key, num_envs=1: model.init(key))


def _num_actions(name: str, spec: Spec) -> int:
    check_no_memory(spec, None)
    if not isinstance(spec.action, Discrete):
        raise TypeError(f"spec: {name} chooses among discrete actions, the environment has {spec.action}")
    return spec.action.num_actions


def _nothing(key: Array, num_envs: int = 1) -> PyTree:
    del key, num_envs
    return ()


def _player(act: ActFn, init: InitFn = _nothing) -> Agent:
    def update(key: Array, state: PyTree, trajectory: Transition) -> tuple[PyTree, Metrics]:
        del key, trajectory
        return state, {}

    return Agent(init, act, update)


def _legal_logits(observation: Any, num_actions: int) -> Array:
    mask = action_mask(observation)
    if mask is None:
        batch = jax.tree.leaves(observation)[0].shape[0]
        return jnp.zeros((batch, num_actions))
    return jnp.where(mask, 0.0, -jnp.inf)
