"""The combinator that shows an agent's reward model the states of the simulator, so that segments can be drawn."""

from __future__ import annotations

from typing import Any

from jaxrl.types import Agent, Array, Metrics, PyTree, Transition


def with_states(agent: Agent) -> Agent:
    """The agent, whose ``update`` gets trajectories with ``observation.env_state``.

    Rollouts drop the simulator's state, which only planners read. Here ``act`` keeps it in the extras, and ``update``
    puts it back. Of the parts of an agent only a reward model's memory keeps it, see ``segments.kept``.

    Args:
      agent: an agent for the spec of ``envs.expose_state(env)``.
    """

    def act(key: Array, state: PyTree, observation: Any, *, explore: bool = True) -> tuple[Any, Any]:
        action, extras = agent.act(key, state, observation, explore=explore)
        # None where somebody acts on an observation without it; such steps can't be learned from.
        return action, (extras, getattr(observation, "env_state", None))

    def update(key: Array, state: PyTree, trajectory: Transition) -> tuple[PyTree, Metrics]:
        if not trajectory.reward.size:  # an update without steps has no states
            return agent.update(key, state, trajectory)
        extras, env_state = trajectory.extras
        observation = trajectory.observation._replace(env_state=env_state)
        return agent.update(key, state, trajectory._replace(observation=observation, extras=extras))

    return Agent(agent.init, act, update)
