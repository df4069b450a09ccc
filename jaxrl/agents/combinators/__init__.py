"""Combinators: functions from agents to an agent, one file each."""

from jaxrl.agents.combinators.with_dynamics import DynamicsState, with_dynamics
from jaxrl.agents.combinators.with_reward import RewardedState, with_reward
from jaxrl.agents.combinators.with_states import with_states

__all__ = ["DynamicsState", "RewardedState", "with_dynamics", "with_reward", "with_states"]
