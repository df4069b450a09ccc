"""From a run on disk to an agent and its state, for use in code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.runs.building import Built, build, make_program
from jaxrl.runs.config import RunConfig
from jaxrl.runs.folder import RunError, RunFolder
from jaxrl.training.loop import TrainState
from jaxrl.types import Agent, PyTree


def restore(run: str | Path, step: int | None = None) -> tuple[RunConfig, Built, TrainState]:
    """Reads a checkpoint of a run.

    Args:
      run: its folder.
      step: the update to restore; None takes the last checkpoint.

    Returns:
      ``(config, built, state)``, the state ``[S, ...]`` of all members.

    Raises:
      RunError: no run, or no checkpoint in it.
      ConfigError: its configuration can't be read or built by this version.
      CheckpointError: a checkpoint that is torn or does not fit.
    """
    folder = RunFolder(run)
    config = folder.read_config()
    built = build(config)
    checkpoints = folder.checkpoints(config)
    if not checkpoints.steps():
        raise RunError(f"{folder.path} has no checkpoint yet; jaxrl resume {folder.path} starts it")
    return config, built, checkpoints.restore(make_program(config, built).abstract_state(), step)


def load(run: str | Path, *, member: int | None = 0, step: int | None = None) -> tuple[Agent, PyTree]:
    """The agent of a run and its trained state: ``agent, state = jaxrl.load("runs/ppo-CartPole-v1")``.

    ``agent.act(key, state, observation, explore=False)`` then plays. ``state`` is one member's, without a population
    axis; ``member=None`` gives that of all members, ``[S, ...]``, for ``jax.vmap``.

    Args:
      run: the folder.
      member: which one, counted as in metrics.csv; in a run without a sweep that is the seed.
      step: the update to load; None takes the last checkpoint.

    Raises:
      RunError: no run, no checkpoint in it, no such member, or all members of a sweep, who are different agents.
      ConfigError, CheckpointError: it can't be rebuilt by this version; the message says why.
    """
    config, built, state = restore(run, step)
    if member is None:
        if config.sweep is not None:
            raise RunError(f"{run} sweeps {config.sweep.name}: each value is another agent, choose a member")
        return built.make_agent(), state.agent
    check_member(config, run, member)
    return built.agent(member), jax.tree.map(lambda leaf: leaf[member], state.agent)


def check_member(config: RunConfig, run: str | Path, member: int) -> None:
    """Refuses a member that a run doesn't have.

    Raises:
      RunError: naming it and the range.
    """
    if not 0 <= member < len(config.members()):
        raise RunError(f"member: got {member}, {run} has 0 to {len(config.members()) - 1}")


def transfer(run: str | Path, state: TrainState) -> TrainState:
    """A fresh state with the parameters of another run's last checkpoint: all else stays fresh.

    The statistics that standardise observations go with the parameters that learned on them, where both runs keep
    them. Member i gets those of member i, counted round where the other run has fewer.

    Args:
      run: the other run.
      state: ``[S, ...]`` of the new one.

    Raises:
      RunError: the agents keep no parameters, or theirs differ in structure or shape; the message names the leaf.
    """
    source = restore(run)[2].agent
    for agent_state in (source, state.agent):
        if not hasattr(agent_state, "params"):
            raise RunError(f"init_from {run}: a {type(agent_state).__name__} has no parameters to start from")
    replaced = {"params": _taken(run, "params", source.params, state.agent.params)}
    kept = [getattr(agent_state, "observation_statistics", ()) for agent_state in (source, state.agent)]
    if all(jax.tree.leaves(statistics) for statistics in kept):
        replaced["observation_statistics"] = _taken(run, "observation_statistics", *kept)
    return state._replace(agent=state.agent._replace(**replaced))


def _taken(run: str | Path, name: str, source: PyTree, target: PyTree) -> PyTree:
    """``source`` in the place of ``target``, both ``[S, ...]``, members counted round."""
    given, wanted = (
        {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (source, target)
    )
    for path in [*wanted, *given]:
        shapes = [tree[path].shape[1:] if path in tree else None for tree in (given, wanted)]
        if shapes[0] != shapes[1]:
            there, here = ("absent" if shape is None else f"of shape {list(shape)}" for shape in shapes)
            raise RunError(f"init_from {run}: {name}{path} is {there} there, and {here} here")

    def take(old: Any, new: Any) -> Any:
        members = np.arange(new.shape[0]) % old.shape[0]
        return jax.device_put(old[members].astype(new.dtype), new.sharding)

    return jax.tree.map(take, source, target)
