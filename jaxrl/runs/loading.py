"""Loads the agent and the state of a run on disk."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl import processes
from jaxrl.arguments import nearest
from jaxrl.runs.building import Built, Given, build, make_program
from jaxrl.runs.config import RunConfig, Sweep
from jaxrl.runs.errors import ConfigError, RunError
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.phases import make_phases
from jaxrl.runs.recipes import Recipe
from jaxrl.runs.snapshots import saved_updates, without_replay
from jaxrl.training.loop import TrainState
from jaxrl.types import Agent, PyTree

SweptValue = float | Sequence[float] | Mapping[str, float] | None


def restore(
    run: str | Path, update: int | None = None, *, trust: bool = False, given: Given | None = None
) -> tuple[RunConfig, Built, TrainState]:
    """Reads a checkpoint of a run.

    Args:
      run: the run's folder.
      update: the update of the checkpoint; None takes the last one.
      trust: import the modules that its configuration names, whoever wrote it.
      given: objects that replace those that it names.

    Returns:
      ``(config, built, state)``, with the state ``[S, ...]`` of all members in the order of ``config.members()``. In a
      run of several stages they belong to the stage of the update.

    Raises:
      RunError: it is not a run, or has no checkpoint, or none of this update.
      ConfigError: its configuration can't be read or built by this version.
      CheckpointError: the checkpoint is damaged or does not fit.
    """
    folder = RunFolder(run)
    config = folder.read_config(trust=trust)
    checkpoints = folder.checkpoints(config)
    if not checkpoints.updates():
        raise RunError(f"{folder.path} has no checkpoint yet; start it with jaxrl resume {folder.path}")
    check_update(folder, config, update)
    update = checkpoints.updates()[-1] if update is None else update
    phase = make_phases(config, given)[config.stage_at(update)]
    return (
        phase.config,
        phase.built,
        checkpoints.restore(make_program(phase.config, phase.built).abstract_state(), update),
    )


def restore_players(
    run: str | Path, update: int | None = None, *, simulations: int | None = None, trust: bool = False
) -> tuple[RunConfig, Built, PyTree]:
    """Reads the players of a run, from a snapshot or a checkpoint.

    Args:
      run: the run's folder.
      update: the update of the snapshot or checkpoint; None takes the last one.
      simulations: simulations per move of an agent that searches; None keeps the value from training.

    Returns:
      ``(config, built, states)`` as in ``restore``, with the states ``[S, ...]`` of the agents ``without_replay``.

    Raises:
      RunError: it is not a run, nothing is saved or nothing of this update; or its agent does not search.
      ConfigError: its configuration can't be read or built by this version.
      CheckpointError: the snapshot or checkpoint is damaged or does not fit.
    """
    folder = RunFolder(run)
    config = folder.read_config(trust=trust)
    known = saved_updates(folder, config)
    if not known:
        raise RunError(f"{folder.path} has no checkpoint yet; start it with jaxrl resume {folder.path}")
    if update is not None and update not in known:
        raise RunError(f"update: got {update}, must be one of {', '.join(map(str, known))} for {folder.path}")
    update = known[-1] if update is None else update
    phase = make_phases(config)[config.stage_at(update)]
    whole, config, built = config, phase.config, phase.built
    template = make_program(config, built).abstract_state().agent
    snapshots, checkpoints = folder.snapshots(whole), folder.checkpoints(whole)
    # The last update has both, and a damaged one of them does no harm.
    if update in snapshots.updates() and (update not in checkpoints.updates() or snapshots.readable([update])):
        states = snapshots.restore(without_replay(template), update)
    else:
        states = without_replay(checkpoints.restore(template, update, under="agent"))
    if simulations is not None:
        if "num_simulations" not in config.hyperparameters:
            raise RunError(
                f"simulations: got {simulations}, must be left out: {config.recipe} in {folder.path} has no search"
            )
        searching = {**config.hyperparameters, "num_simulations": simulations}
        config = dataclasses.replace(config, hyperparameters=searching)
        built = build(config, num_updates=built.num_updates)
    return config, built, states


def check_update(folder: RunFolder, config: RunConfig, update: int | None) -> None:
    """Refuses an update without a checkpoint; None is the last one.

    Raises:
      RunError: the message names it and the updates that have one.
    """
    checkpoints = folder.checkpoints(config)
    if update is not None and update not in checkpoints.updates():
        there = ", ".join(map(str, checkpoints.readable())) or "none yet"
        raise RunError(f"update: got {update}, must be a checkpoint of {folder.path}: {there}")


def load(
    run: str | Path,
    *,
    seed: int | None = 0,
    value: SweptValue = None,
    update: int | None = None,
    trust: bool = False,
    recipe: Recipe | None = None,
    environment: Any = None,
    env_params: PyTree = None,
    **parts: Any,
) -> tuple[Agent, PyTree]:
    """Loads the agent of a run and its trained state: ``agent, state = jaxrl.load("runs/ppo-CartPole-v1")``.

    Call ``agent.act(key, state, observation, explore=False)`` to act. A run has one state per seed, and a sweep has one
    agent with its states per value, which has to be selected: ``jaxrl.load(run, value=3e-4, seed=2)``.
    ``RunFolder(run).read_config().members()`` lists them all.

    Args:
      run: the run's folder.
      seed: the index of the seed; None returns all of them, leaves ``[seeds, ...]``, for ``jax.vmap``.
      value: the value of the swept hyper-parameter. For several, all values in their order, or a dict such as
        ``{"gamma": 0.9}`` that selects one combination. None without a sweep.
      update: the update of the checkpoint; None takes the last one.
      trust: import the modules that its configuration names, whoever wrote it. Without it they are imported only if
        this user trained with them on this machine before.
      recipe, environment, env_params, **parts: the objects that the run was started with from Python, if they can't be
        imported by their names.

    Raises:
      RunError: the run, checkpoint, seed, value or update does not exist, or a sweep needs a value; lists what exists.
      Untrusted: it names modules that this user has not trained with.
      ConfigError, CheckpointError: it can't be rebuilt by this version; the message says why.
    """
    config = RunFolder(run).read_config(trust=trust)
    first = first_member(config, run, value)
    if seed is not None:
        check_seed(config, run, seed)
    given = Given(recipe, environment, env_params, parts)
    config, built, state = restore(run, update, trust=trust, given=given)
    numbers = slice(first, first + config.seeds) if seed is None else first + seed
    return built.agent(first), jax.tree.map(lambda leaf: leaf[numbers], state.agent)


def first_member(config: RunConfig, run: str | Path, value: SweptValue) -> int:
    """The index of the first member with a swept value; its other seeds follow.

    Args:
      config, run: those of the run.
      value: the swept value; for several, the values in the order of the sweep, or a dict by name that selects one
        combination.

    Raises:
      RunError: no combination or several fit, a sweep needs a value, or nothing is swept.
    """
    sweep = config.sweep
    if sweep is None:
        if value is None:
            return 0
        raise RunError(f"value: got {_written(value)}, must be left out: {run} has no sweep")
    if len(sweep.names) > 1:
        listed = "; ".join(map(sweep.label, range(len(sweep.values))))
        there = f"the settings {listed}"
    else:
        listed = ", ".join(map(sweep.short, range(len(sweep.values))))
        there = f"{sweep.title} = {listed}"
    if value is None:
        raise RunError(f"value: got None, must be a value of the sweep over {sweep.title} in {run}: {listed}")
    wanted = _by_name(sweep, run, value, there)
    settings = [dict(zip(sweep.names, setting, strict=True)) for setting in sweep.values]
    is_meant = [
        all(math.isclose(setting[name], number, rel_tol=1e-6) for name, number in wanted.items())
        for setting in settings
    ]
    if sum(is_meant) != 1:
        several = "fits several of them: " if any(is_meant) else ""
        raise RunError(f"value: got {_written(value)}, {several}{run} has {there}")
    return is_meant.index(True) * config.seeds


def _by_name(sweep: Sweep, run: str | Path, value: SweptValue, there: str) -> dict[str, float]:
    """The swept values by name."""
    if isinstance(value, Mapping):
        for name in value:
            if name not in sweep.names:
                hint = nearest(name, sweep.names)
                raise RunError(f"value: got {_written(value)}, '{name}' is not swept{hint}; {run} has {there}")
        return dict(value)
    numbers = (value,) if isinstance(value, (int, float)) else tuple(value or ())
    if len(numbers) != len(sweep.names):
        how = f"must be {len(sweep.names)} numbers ({sweep.title}), or name=number"
        raise RunError(f"value: got {_written(value)}, {how}; {run} has {there}")
    return dict(zip(sweep.names, numbers, strict=True))


def _written(value: SweptValue) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={number:g}" for name, number in value.items())
    return ", ".join(f"{number:g}" for number in ((value,) if isinstance(value, (int, float)) else value or ()))


def check_seed(config: RunConfig, run: str | Path, seed: int) -> None:
    """Refuses a seed that a run does not have.

    Raises:
      RunError: the message names the seed and the range.
    """
    if not 0 <= seed < config.seeds:
        there = "seed 0 alone" if config.seeds == 1 else f"the seeds 0 to {config.seeds - 1}"
        raise RunError(f"seed: got {seed}, {run} has {there}")


def check_source(run: str | Path, *, trust: bool = False) -> None:
    """Refuses a run that parameters can't be taken from, before anything is compiled; see ``transfer``.

    Raises:
      RunError, Untrusted: it is not a run, has no checkpoint, or names modules that this user has not trained with.
    """
    try:
        folder = RunFolder(run)
        if not folder.checkpoints(folder.read_config(trust=trust)).updates():
            raise RunError(f"{folder.path} has no checkpoint yet; start it with jaxrl resume {folder.path}")
    except (RunError, ConfigError) as error:
        raise RunError(f"init_from: {error}") from error


def transfer(run: str | Path, state: TrainState, *, trust: bool = False) -> TrainState:
    """A new state with the parameters of another run's last checkpoint; everything else is new.

    The statistics that standardise observations are copied with the parameters, if both runs have them. Member i gets
    the parameters of member i; if the other run has fewer, they repeat from the first one on.

    Args:
      run: the other run.
      state: ``[S, ...]``, the new state.
      trust: see ``load``.

    Raises:
      RunError: the agents have no parameters, or theirs differ in structure or shape; the message names the leaf.
    """
    try:
        source = restore(run, trust=trust)[2].agent
    except (RunError, ConfigError) as error:
        raise RunError(f"init_from: {error}") from error
    for agent_state in (source, state.agent):
        if not hasattr(agent_state, "params"):
            raise RunError(f"init_from {run}: a {type(agent_state).__name__} has no parameters to start from")
    replaced = {"params": _taken(run, "params", source.params, state.agent.params)}
    if hasattr(state.agent, "reference"):  # the language model that this run's policy starts from
        replaced["reference"] = _taken(run, "policy", source.policy, state.agent.reference)
    kept = [getattr(getattr(agent_state, "statistics", ()), "observation", ()) for agent_state in (source, state.agent)]
    if all(jax.tree.leaves(statistics) for statistics in kept):
        taken = _taken(run, "statistics.observation", *kept)
        replaced["statistics"] = state.agent.statistics._replace(observation=taken)
    return state._replace(agent=state.agent._replace(**replaced))


def _taken(run: str | Path, name: str, source: PyTree, target: PyTree) -> PyTree:
    """Replaces ``target`` by ``source``, both ``[S, ...]``, with members of the source repeated as needed."""
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
        return processes.place(np.asarray(old)[members].astype(new.dtype), new.sharding)

    return jax.tree.map(take, source, target)
