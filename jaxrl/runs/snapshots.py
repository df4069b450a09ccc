"""Snapshots: the players of a run at several times of its training, for later matches.

A checkpoint contains everything that a run needs to continue, and the last few are kept. A snapshot contains what
acting needs, and all are kept. Two-player runs write them.
"""

from __future__ import annotations

from jaxrl.runs.config import RunConfig
from jaxrl.runs.folder import RunFolder
from jaxrl.types import PyTree

NUM_SNAPSHOTS = 10
"""The number of snapshots of a run, evenly over its updates, besides the one before the first update."""


def without_replay(agent_state: PyTree) -> PyTree:
    """An agent's state without the content of ``per_env``, such as the replay, which ``act`` does not read."""
    return agent_state._replace(per_env=()) if hasattr(agent_state, "per_env") else agent_state


def is_due(before: int, now: int, num_updates: int) -> bool:
    """Whether a snapshot is due in the updates from ``before`` (excluded) to ``now`` (included)."""
    return now * NUM_SNAPSHOTS // num_updates > before * NUM_SNAPSHOTS // num_updates


def saved_updates(folder: RunFolder, config: RunConfig) -> list[int]:
    """The updates with a snapshot or a checkpoint, in order."""
    return sorted({*folder.snapshots(config).updates(), *folder.checkpoints(config).updates()})
