"""Reward models: rewards that are computed or learned rather than given by the environment.

A reward model is a ``jaxrl.types.RewardModel``. ``jaxrl.with_reward(agent, reward_model)`` gives it to any agent, and
recipes with a replay take it as ``reward_model=``.
"""

from jaxrl.feedback import judge, teachers
from jaxrl.feedback.clipped import clipped
from jaxrl.feedback.evaluative import CoachState, TamerState, as_advantage, coach, tamer
from jaxrl.feedback.preferences import PreferencesState, preferences
from jaxrl.feedback.rnd import RNDState, rnd
from jaxrl.feedback.segments import Segments
from jaxrl.feedback.teachers import Answers, Teacher
from jaxrl.feedback.trainers import Signals, Trainer, TrainerState, trainer

__all__ = [
    "Answers",
    "CoachState",
    "PreferencesState",
    "RNDState",
    "Segments",
    "Signals",
    "TamerState",
    "Teacher",
    "Trainer",
    "TrainerState",
    "as_advantage",
    "clipped",
    "coach",
    "judge",
    "preferences",
    "rnd",
    "tamer",
    "teachers",
    "trainer",
]


def __dir__() -> list[str]:
    return sorted(__all__)
