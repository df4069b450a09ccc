"""The panel of a learning curve that shows a learned reward, and how many labels it was learned from."""

from __future__ import annotations

from typing import Any, NamedTuple

import matplotlib
import numpy as np

from jaxrl.runs.folder import RunFolder
from jaxrl.runs.metrics import Curves, read_curves

REWARD, LABELS = "reward_model_reward", "reward_model_labels"
"""Columns of metrics.csv of a run with ``feedback.preferences``."""


class LearnedReward(NamedTuple):
    """The curves of the panel, ``[S, points]`` for all members of a run.

    Attributes:
      reward: the mean learned reward of a step.
      labels: the number of answers of the teacher so far.
    """

    reward: Curves
    labels: Curves


def read(folder: RunFolder, num_members: int) -> LearnedReward | None:
    """The learned reward of a run; None for a run without one."""
    try:
        return LearnedReward(*(read_curves(folder.metrics_file, name, num_members) for name in (REWARD, LABELS)))
    except ValueError:
        return None


def draw(axes: Any, learned: LearnedReward) -> None:
    """Draws the mean reward of each member, and the mean number of labels on an axis of its own."""
    for member in learned.reward.values:
        axes.plot(learned.reward.env_steps, member, color="C2", linewidth=0.8, alpha=0.5)
    axes.plot(learned.reward.env_steps, learned.reward.values.mean(0), color="C2", label="learned reward")
    axes.set_ylabel("learned reward")
    axes.grid(alpha=0.25)
    beside = axes.twinx()
    labels = learned.labels.values.mean(0)
    beside.step(learned.labels.env_steps, labels, where="post", color="C3", linestyle="--", label="labels used")
    beside.set_ylabel("labels used")
    beside.set_ylim(0, 1.1 * max(1.0, float(np.nanmax(labels))))
    for each in (axes, beside):
        each.spines["top"].set_visible(False)
    axes.set_xlabel("environment steps per seed")
    axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    handles = [handle for each in (axes, beside) for handle in each.get_legend_handles_labels()[0]]
    axes.legend(handles=handles, edgecolor="none", framealpha=0.7)
