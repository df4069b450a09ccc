"""The combinator of agents and learned dynamics: an agent that uses a model, which is fitted to what the agent sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxrl.agents.parts import dynamics, replaying
from jaxrl.models.ensemble import Ensemble, EnsembleParams
from jaxrl.replay import ring
from jaxrl.replay.base import num_rows
from jaxrl.replay.ring import Ring
from jaxrl.types import Agent, Array, Metrics, PyTree, Spec, Transition


class DynamicsState(NamedTuple):
    """The state of an agent and of its model.

    Attributes:
      dynamics: parameters of the ensemble.
      agent: state of the agent, without ``per_env``.
      per_env: all transitions, leaves ``[rows, B, ...]``, and the agent's ``per_env``.
    """

    dynamics: EnsembleParams
    agent: PyTree
    per_env: tuple[Ring, PyTree]

    @property
    def params(self) -> dict[str, PyTree]:
        """All that is learned."""
        return {"dynamics": self.dynamics, **self.agent.params}


def with_dynamics(
    spec: Spec,
    agent_of: Callable[[EnsembleParams], Agent],
    ensemble: Ensemble,
    *,
    learning_starts: int,
    refit_every: int,
    data_capacity: int,
    **fit_options: Any,
) -> Agent:
    """The agent ``agent_of(params)``, where params are those of an ensemble that is fitted again and again.

    The ensemble is fitted before the agent learns from the rollout. Keys of the agent are those that it has alone.

    Args:
      spec: of the environment.
      agent_of: makes the agent for a model; its state has the fields ``steps`` and ``per_env``, and its actions in
        units of the bounds are its extras.
      ensemble: of actions in units of the bounds, see ``parts.dynamics.unit_ensemble``.
      learning_starts: environment steps before the first fit.
      refit_every: environment steps from one fit to the next.
      data_capacity: transitions kept for fits, of all environments together.
      **fit_options: of ``models.fit``.

    Returns:
      An ``Agent`` whose metrics include those of the fits as ``model_...``, NaN where nothing was fitted.
    """

    def init(key: Array, num_envs: int = 1) -> DynamicsState:
        params = ensemble.init(jax.random.fold_in(key, dynamics.MODEL))
        state = agent_of(params).init(key, num_envs)
        data = ring.init(replaying.example(spec), num_rows(data_capacity, num_envs, 1), num_envs)
        return DynamicsState(params, state._replace(per_env=()), (data, state.per_env))

    def act(key: Array, state: DynamicsState, observation: Any, *, explore: bool = True) -> tuple[Any, Any]:
        return agent_of(state.dynamics).act(key, state.agent, observation, explore=explore)

    def update(key: Array, state: DynamicsState, trajectory: Transition) -> tuple[DynamicsState, Metrics]:
        data, own = state.per_env
        data = ring.add(data, replaying.stored(spec, trajectory))
        due = dynamics.is_due(state.agent.steps, replaying.num_steps(trajectory), learning_starts, refit_every)
        model_key = jax.random.fold_in(key, dynamics.MODEL)
        params, of_model = dynamics.refit(due, model_key, ensemble, state.dynamics, data, **fit_options)
        learned, metrics = agent_of(params).update(key, state.agent._replace(per_env=own), trajectory)
        return DynamicsState(params, learned._replace(per_env=()), (data, learned.per_env)), {**metrics, **of_model}

    return Agent(init, act, update)
