"""Combinators: functions from agents to an agent, one file each."""

from jaxrl.agents.combinators.with_reward import RewardedState, with_reward

__all__ = ["RewardedState", "with_reward"]
