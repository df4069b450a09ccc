"""The combinator of agents and reward models: an agent that learns from a reward model's rewards."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.arguments import check_steps
from jaxrl.rollout import without_states
from jaxrl.types import Agent, Array, Metrics, PyTree, RewardModel, Transition


class _Fields(NamedTuple):
    agent: PyTree
    reward_model: PyTree
    per_env: tuple[PyTree, PyTree]


class RewardedState(_Fields):
    """The state of an agent and of its reward model.

    Attributes:
      agent: state of the agent, without ``per_env``.
      reward_model: state of the reward model, without ``per_env``.
      per_env: pair of the agent's and the reward model's ``per_env``.
    """

    __slots__ = ()

    @property
    def params(self) -> PyTree:
        """The parameters of the agent; ``_replace(params=...)`` works too, as workers and ``--init-from`` need."""
        return self.agent.params

    @property
    def statistics(self) -> PyTree:
        """The agent's normalisation statistics, () without any; ``_replace(statistics=...)`` works too."""
        return getattr(self.agent, "statistics", ())

    def _replace(self, /, **changes: Any) -> RewardedState:
        of_agent = {name: changes.pop(name) for name in ("params", "statistics") if name in changes}
        if of_agent:
            agent: Any = changes.get("agent", self.agent)
            changes["agent"] = agent._replace(**of_agent)
        return super()._replace(**changes)


def with_reward(agent: Agent, reward_model: RewardModel) -> Agent:
    """The agent with the rewards of a reward model, which learns from the same trajectories.

    Rewards are computed before the model learns from the trajectory. An agent with a replay stores them; give the
    recipe ``reward_model=`` instead to compute rewards of old transitions by the newest model. Reported episode returns
    stay those of the environment.

    Args:
      agent: any agent.
      reward_model: such as ``jaxrl.feedback.rnd(spec)``.

    Returns:
      An ``Agent`` whose metrics include the mean ``learned_reward`` and the model's metrics as ``reward_model_...``.
      Its state is a ``RewardedState``; ``jaxrl.functions`` take its field ``agent``.

    Raises:
      TypeError: ``agent`` is not an agent, or ``reward_model`` not a reward model.
      ValueError: (in ``update``) rewards are not ``[T, B]``.
    """
    if not isinstance(agent, Agent):
        raise TypeError(f"agent: got {type(agent).__name__}, must be an Agent such as jaxrl.ppo(spec)")
    if not isinstance(reward_model, RewardModel):
        raise TypeError(
            f"reward_model: got {type(reward_model).__name__}, must be a RewardModel such as feedback.rnd(spec)"
        )

    def init(key: Array, num_envs: int = 1) -> RewardedState:
        agent_key, model_key = jax.random.split(key)
        return _join(agent.init(agent_key, num_envs), reward_model.init(model_key, num_envs))

    def act(key: Array, state: RewardedState, observation: Any, *, explore: bool = True) -> tuple[Any, Any]:
        return agent.act(key, _split(state)[0], observation, explore=explore)

    def update(key: Array, state: RewardedState, trajectory: Transition) -> tuple[RewardedState, Metrics]:
        check_steps(trajectory.reward.shape)
        agent_key, reward_key, model_key = jax.random.split(key, 3)
        agent_state, model_state = _split(state)
        reward = _checked(reward_model.reward(reward_key, model_state, trajectory), trajectory.reward)
        paid = without_states(trajectory)._replace(reward=reward)
        agent_state, metrics = agent.update(agent_key, agent_state, paid)
        model_state, of_model = reward_model.update(model_key, model_state, trajectory)
        of_model = {f"reward_model_{name}": value for name, value in of_model.items()}
        return _join(agent_state, model_state), {**metrics, **of_model, "learned_reward": reward.mean()}

    return Agent(init, act, update)


def _checked(reward: Any, of_environment: Array) -> Array:
    """The rewards of a model in the dtype of the environment's rewards; other shapes raise."""
    if jnp.shape(reward) != of_environment.shape:
        raise ValueError(
            f"reward_model: returned rewards of shape {list(jnp.shape(reward))}, must be [T, B], here "
            f"{list(of_environment.shape)}"
        )
    return jnp.asarray(reward, of_environment.dtype)


def _join(agent: PyTree, reward_model: PyTree) -> RewardedState:
    per_env = (getattr(agent, "per_env", ()), getattr(reward_model, "per_env", ()))
    return RewardedState(_with_per_env(agent, ()), _with_per_env(reward_model, ()), per_env)


def _split(state: RewardedState) -> tuple[PyTree, PyTree]:
    of_agent, of_model = state.per_env or ((), ())  # a snapshot of the state has neither
    return _with_per_env(state.agent, of_agent), _with_per_env(state.reward_model, of_model)


def _with_per_env(state: PyTree, per_env: PyTree) -> PyTree:
    return state._replace(per_env=per_env) if hasattr(state, "per_env") else state
