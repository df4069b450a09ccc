"""Snapshots: who a run's players were at moments of their training, to be met again.

A checkpoint is all that a run needs to go on, and the last few stay. A snapshot is what acting needs, and all stay.
Runs of games for two leave them.
"""

from __future__ import annotations

from jaxrl.runs.config import RunConfig
from jaxrl.runs.folder import RunFolder
from jaxrl.types import PyTree

MOMENTS = 10
"""Snapshots that a run leaves, evenly over its updates, beside the one from before the first."""


def without_replay(agent_state: PyTree) -> PyTree:
    """An agent's state without what lies under ``per_env``, the replay for one, which ``act`` doesn't read."""
    return agent_state._replace(per_env=()) if hasattr(agent_state, "per_env") else agent_state


def is_due(before: int, now: int, num_updates: int) -> bool:
    """Whether one of the moments lies in the updates from ``before`` (excluded) to ``now`` (included)."""
    return now * MOMENTS // num_updates > before * MOMENTS // num_updates


def moments(folder: RunFolder, config: RunConfig) -> list[int]:
    """The updates of which there is a snapshot or a checkpoint, in order."""
    return sorted({*folder.snapshots(config).updates(), *folder.checkpoints(config).updates()})
