"""Players that learn nothing: a random one, and plain tree search by rollouts. What a learned one is measured against.

Legend of shapes: B environments, A actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import search
from jaxrl.agents import planning
from jaxrl.agents.validation import check_arguments
from jaxrl.arguments import NON_NEGATIVE, check_callable, check_count, check_float
from jaxrl.types import ActFn, Agent, Array, Discrete, Metrics, PyTree, Spec, Transition, action_mask

SimulatorFn = Callable[[Array, PyTree, Array], Any]
"""``(key, env_state, action) -> Simulated``, one state at a time: ``envs.simulator``."""


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


def uct_player(
    spec: Spec, model: SimulatorFn, num_simulations: int = 100, *, exploration: Any = 2.0**0.5, max_steps: int = 1000
) -> Agent:
    """The textbook's player: UCT in the true simulator, values by one random game each, no network.

    Kocsis and Szepesvari, "Bandit based Monte-Carlo planning", 2006; see ``search.uct``. It takes the most visited
    action, and one of them at random where several are, exploring or not.

    Args:
      spec: what is known of the environment; its actions are discrete.
      model: ``envs.simulator(env, params)``. Observations have to come from ``envs.expose_state(env)``.
      num_simulations: random games for each move.
      exploration: the factor of ``sqrt(log n / n(a))``.
      max_steps: the longest random game, in moves.

    Raises:
      TypeError, ValueError: naming the argument, what was given, and what is allowed.
    """
    num_actions = _num_actions("uct_player", spec)
    check_callable("model", model, "a simulator (key, env_state, action) -> Simulated, see envs.simulator")
    check_count("num_simulations", num_simulations)
    check_count("max_steps", max_steps)
    check_float("exploration", exploration, NON_NEGATIVE)
    recurrent_fn = search.with_rollouts(as_recurrent_fn(model, num_actions), max_steps)

    def act(key: Array, state: PyTree, observation: Any, *, explore: bool = True) -> tuple[Array, Any]:
        del state, explore
        root = search.rollout_root(planning.true_state(observation), num_actions)
        illegal = planning.invalid_actions(observation)
        found = search.uct(key, (), root, recurrent_fn, num_simulations, illegal, exploration=exploration)
        return found.action, ()

    return _player(act)


def as_recurrent_fn(model: SimulatorFn, num_actions: int) -> search.RecurrentFn:
    """A simulator as a model to search in, for all states of a batch; its priors are uniform and its values 0.

    A game that is cut off ends there: behind it lies another one.
    """

    def recurrent_fn(params: PyTree, key: Array, action: Array, embedding: PyTree) -> tuple[Any, PyTree]:
        del params
        batch = action.shape[0]
        step = jax.vmap(model)(jax.random.split(key, batch), embedding, action)
        output = search.RecurrentFnOutput(
            reward=step.reward,
            discount=jnp.where(step.truncated, 0.0, step.discount),
            prior_logits=jnp.zeros((batch, num_actions)),
            value=jnp.zeros(batch),
            invalid_actions=planning.invalid_actions(step.observation),
        )
        return output, step.env_state

    return recurrent_fn


def _num_actions(name: str, spec: Spec) -> int:
    check_arguments({"spec": spec})
    if not isinstance(spec.action, Discrete):
        raise TypeError(f"spec: {name} chooses among discrete actions, the environment has {spec.action}")
    return spec.action.num_actions


def _player(act: ActFn) -> Agent:
    def init(key: Array, num_envs: int = 1) -> PyTree:
        del key, num_envs
        return ()

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
