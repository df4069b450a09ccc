"""Snapshots: who a run's players were at moments of their training, to be met again.

A checkpoint is all that a run needs to go on, and the last few stay. A snapshot is what acting needs, and all stay.
Runs of games for two leave them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from jaxrl.runs.building import Built, build, make_program
from jaxrl.runs.config import RunConfig
from jaxrl.runs.folder import RunError, RunFolder
from jaxrl.runs.phases import make_phases
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


def restore_players(
    run: str | Path, update: int | None = None, *, simulations: int | None = None, trust: bool = False
) -> tuple[RunConfig, Built, PyTree]:
    """Reads the players of a run, from a snapshot or a checkpoint.

    Args:
      run: its folder.
      update: of which moment; None takes the last one.
      simulations: of each move, for an agent that searches; None leaves it as it was trained.

    Returns:
      ``(config, built, states)``: the states ``[S, ...]`` of all members' agents, ``without_replay``.

    Raises:
      RunError: no run, nothing saved in it, or nothing of this update; or its agent doesn't search.
      ConfigError: its configuration can't be read or built by this version.
      CheckpointError: what was saved is torn or does not fit.
    """
    folder = RunFolder(run)
    config = folder.read_config(trust=trust)
    phase = make_phases(config)[-1]
    built = phase.built
    known = moments(folder, config)
    if not known:
        raise RunError(f"{folder.path} has no checkpoint yet; jaxrl resume {folder.path} starts it")
    if update is not None and update not in known:
        raise RunError(f"update: got {update}, {folder.path} has the updates {', '.join(map(str, known))}")
    update = known[-1] if update is None else update
    template = make_program(config, built).abstract_state().agent
    if update in folder.snapshots(config).updates():
        states = folder.snapshots(config).restore(without_replay(template), update)
    else:
        states = without_replay(folder.checkpoints(config).restore(template, update, under="agent"))
    if simulations is not None:
        if "num_simulations" not in config.hyperparameters:
            raise RunError(f"simulations: got {simulations}, but {config.recipe} in {folder.path} doesn't search")
        searching = {**config.hyperparameters, "num_simulations": simulations}
        config = dataclasses.replace(config, hyperparameters=searching)
        built = build(config)
    return config, built, states
