"""Reward models: rewards that are computed or learned rather than given by the environment.

A reward model is a ``jaxrl.types.RewardModel``. ``jaxrl.with_reward(agent, reward_model)`` gives it to any agent, and
recipes with a replay take it as ``reward_model=``.
"""

from jaxrl.feedback import teachers
from jaxrl.feedback.preferences import PreferencesState, preferences
from jaxrl.feedback.rnd import RNDState, rnd
from jaxrl.feedback.segments import Segments
from jaxrl.feedback.teachers import Answers, Teacher

__all__ = ["Answers", "PreferencesState", "RNDState", "Segments", "Teacher", "preferences", "rnd", "teachers"]
