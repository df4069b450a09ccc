"""Starts and resumes runs: ``jaxrl train`` and ``jaxrl resume`` as functions."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from jaxrl import processes
from jaxrl.runs import judging
from jaxrl.runs.building import Built, Given, make_mesh, make_program
from jaxrl.runs.config import RunConfig
from jaxrl.runs.errors import ConfigError, RunError
from jaxrl.runs.finish import finish
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.loading import check_source, check_update, transfer
from jaxrl.runs.loggers import import_wandb
from jaxrl.runs.memory import check_population_fits, describe_state, dry_run, refuse_what_cannot_fit
from jaxrl.runs.metrics import MetricsWriter
from jaxrl.runs.notices import chance
from jaxrl.runs.objects import remember
from jaxrl.runs.outside import environments_open
from jaxrl.runs.phases import Phase, check_hand_overs, handed_over, make_phases
from jaxrl.runs.sanity import contradictions, probable_mistakes
from jaxrl.runs.session import Session, updates_per_call
from jaxrl.runs.trainers import trainer_of
from jaxrl.training.host import updates_done
from jaxrl.training.interrupt import termination_interrupts
from jaxrl.training.loop import TrainState
from jaxrl.training.program import Runnable


class Run(NamedTuple):
    """A run that has been trained.

    Attributes:
      folder: the run's folder.
      config: its configuration.
      built: its environment and its agents: ``built.agent(member)``.
      state: leaves ``[S, ...]`` of all members, ``config.members()``; ``state.agent`` has the agents' states.
    """

    folder: RunFolder
    config: RunConfig
    built: Built
    state: TrainState


def start(
    folder: RunFolder,
    config: RunConfig,
    *,
    given: Given | None = None,
    console: Console,
    wandb: bool = False,
    dry: bool = False,
    trust: bool = False,
) -> Run | None:
    """Trains a new run in a new folder.

    Args:
      folder: the run's folder.
      config: its configuration.
      given: objects that replace those that the configuration names.
      console: the console to print to.
      wandb: also log to Weights & Biases.
      dry: measure memory and speed instead of training; nothing is written, and None is returned.
      trust: for the run that parameters are taken from, see ``loading.load``.

    Raises:
      ConfigError, RunError, RunStopped: see there.
    """
    if wandb:
        import_wandb()
    if config.init_from is not None:
        check_source(config.init_from, trust=trust)
    for agent in config.phases():
        if agent.recipe == config.recipe:
            check_population_fits(config, given)
    mesh, trainer = make_mesh(config), trainer_of(config)  # before an agent is made, which takes seconds
    phases = make_phases(config, given)
    kind = phases[-1].built.kind
    config = dataclasses.replace(config, kind=kind.name)
    built, own_judge = phases[-1].built, None if given is None else given.judge
    judging.check(config, own_judge, built.env, built.spec)
    for phase in phases:
        _refuse_contradictions(phase, console)
    with contextlib.ExitStack() as stack:
        stack.enter_context(termination_interrupts())
        if not dry:
            if processes.is_first():
                folder.refuse_existing()
            stack.enter_context(folder.locked())
        stack.enter_context(_environments_open(folder, config, phases))
        programs = [make_program(phase.config, phase.built, mesh) for phase in phases]
        check_hand_overs(phases, programs)
        for phase, program in zip(phases, programs, strict=True):
            refuse_what_cannot_fit(phase.config, program.state_bytes())
            if "replay" in phase.config.parts and not dry:
                console.print(f"state: {describe_state(phase.config, program)}", highlight=False)
        state = first_state(config, programs[0], trust=trust)
        for notice in trainer.notices(config):
            console.print(notice, highlight=False)
        seconds = compile_programs(phases, programs, console)
        if dry:
            dry_run(config, phases[0].built, programs[0], state, seconds, console)
            return None
        if processes.is_first():
            folder.create(config)
            remember(config.imports())
        judge = judging.make(folder, config, own_judge, built.env, built.spec)
        session = Session(folder, config, phases, programs, console, wandb=wandb, judge=judge)
        state = session.train(0, state)
        finish(folder, config, phases[-1].built, state, config.eval_episodes, console)
    return Run(folder, session.config, phases[-1].built, state)


def continue_run(
    folder: RunFolder,
    config: RunConfig,
    before: RunConfig,
    *,
    given: Given | None = None,
    console: Console,
    update: int | None = None,
    wandb: bool = False,
    trust: bool = False,
) -> Run:
    """Continues a run from a checkpoint.

    Args:
      folder: the run's folder.
      config: the new configuration, with the same identity as ``before``.
      before: the configuration so far.
      update: the update of the checkpoint; None for the last one.
      given, console, wandb, trust: see ``start``.

    Raises:
      ConfigError, RunError, RunStopped: see there.
    """
    if wandb:
        import_wandb()
    mesh = make_mesh(config)
    phases = make_phases(config, given)
    kind = phases[-1].built.kind
    config = dataclasses.replace(config, kind=kind.name)
    built, own_judge = phases[-1].built, None if given is None else given.judge
    judging.check(config, own_judge, built.env, built.spec)
    for phase in phases:
        _refuse_contradictions(phase, console)
    if update is not None:
        check_update(folder, config, update)
    with contextlib.ExitStack() as stack:
        stack.enter_context(termination_interrupts())
        stack.enter_context(folder.locked())
        checkpoints = folder.checkpoints(config)
        done = max(checkpoints.updates(), default=0) if update is None else update
        _refuse_finished(folder, config, before, phases, done)
        _refuse_lost_checkpoints(folder, config)
        stack.enter_context(_environments_open(folder, config, phases))
        programs = [make_program(phase.config, phase.built, mesh) for phase in phases]
        check_hand_overs(phases, programs)
        number = config.stage_at(done)
        phase = phases[number]
        refuse_what_cannot_fit(phase.config, programs[number].state_bytes())
        compile_programs(phases[number:], programs[number:], console)
        if checkpoints.updates() or update is not None:
            state = checkpoints.restore(programs[number].abstract_state(), done)
            state, note = kind.resumed(programs[number], state)
        else:
            state, note = first_state(config, programs[0], trust=trust), ""
        if updates_done(state) == phase.built.num_updates and number + 1 < len(phases):
            state = handed_over(phase, state, programs[number + 1].start())
            number += 1
        if processes.is_first():
            MetricsWriter(folder.metrics_file, config).cut(done)
            checkpoints.rewind(done)
            folder.snapshots(config).rewind(done)
            folder.write_config(config)
            remember(config.imports())
        console.print(f"going on from update {done} of {phases[-1].last_update}", highlight=False)
        if note:
            console.print(note, soft_wrap=True, highlight=False)
        say_changes(config, before, console)
        judge = judging.make(folder, config, own_judge, built.env, built.spec)
        session = Session(folder, config, phases, programs, console, wandb=wandb, judge=judge)
        state = session.train(number, state)
        finish(folder, config, phases[-1].built, state, config.eval_episodes, console)
    return Run(folder, session.config, phases[-1].built, state)


def _environments_open(
    folder: RunFolder, config: RunConfig, phases: Sequence[Phase]
) -> contextlib.AbstractContextManager[None]:
    """``environments_open``, which says after a failure what is saved and how to go on."""

    def how_to_continue() -> str:
        if not folder.config_file.is_file():
            return "nothing was trained"
        good = folder.checkpoints(config).readable()
        kept = f"the last good checkpoint is update {good[-1]}" if good else "there is no checkpoint yet"
        return f"{kept} of {phases[-1].last_update}; go on with: jaxrl resume {folder.path}"

    return environments_open([phase.built for phase in phases], how_to_continue)


def _refuse_contradictions(phase: Phase, console: Console) -> None:
    """Raises for arguments with which nothing is learned, and prints notes about probable mistakes."""
    for problem in contradictions(phase.config, phase.built, phase.first_step):
        raise ConfigError(problem)
    if chance(phase.config):
        console.print(chance(phase.config), soft_wrap=True)
    for mistake in probable_mistakes(phase.config, phase.built, phase.first_step):
        console.print(f"note: {mistake}", soft_wrap=True, highlight=False)


def _refuse_finished(
    folder: RunFolder, config: RunConfig, before: RunConfig, phases: Sequence[Phase], done: int
) -> None:
    if done < phases[-1].last_update:
        return
    last = phases[-1]
    taken = last.first_step + (done - last.first_update) * last.steps_per_update
    if config.num_steps != before.num_steps:
        raise RunError(f"--steps: got {config.num_steps}, must be beyond the {taken} that {folder.path} has done")
    raise RunError(
        f"{folder.path} is finished, with {taken} steps of each seed; "
        f"a larger budget goes on with it: jaxrl resume {folder.path} --steps {2 * taken}"
    )


def _refuse_lost_checkpoints(folder: RunFolder, config: RunConfig) -> None:
    """Refuses to begin again in a folder whose checkpoints were deleted: its metrics would be lost too."""
    done = MetricsWriter(folder.metrics_file, config).last_update()
    if folder.checkpoint_folder.exists() and not folder.checkpoint_folder.is_dir():
        raise RunError(f"{folder.checkpoint_folder} is a file, must be the folder of the run's checkpoints")
    if done and not folder.checkpoints(config).updates():
        raise RunError(
            f"{folder.path} has no checkpoint to go on from, though {folder.metrics_file.name} has {done} updates; "
            f"train again in a new folder: jaxrl train --config {folder.config_file}"
        )


def say_changes(config: RunConfig, before: RunConfig, console: Console) -> None:
    """Prints what differs in a resumed run: its devices, and what happens to annealed values."""
    if (config.devices, config.seed_devices) != (before.devices, before.seed_devices):
        on = f"{config.devices} device{'s' if config.devices > 1 else ''}"
        console.print(f"on {on}, {before.devices} before: with other random numbers", highlight=False)
    annealed = [name for name, value in config.hyperparameters.items() if name.startswith("anneal") and value]
    if annealed and config.num_steps != before.num_steps:
        how = "rises again" if config.num_steps > before.num_steps else "falls faster from here on"
        console.print(
            f"{annealed[0].removeprefix('anneal_').replace('_', ' ')}: it is annealed over the new budget of "
            f"{config.num_steps} steps ({before.num_steps} before), so it {how}",
            soft_wrap=True,
            highlight=False,
        )


def default_folder(config: RunConfig) -> Path:
    """``runs/RECIPE-ENV-TIME``, with a number if two runs start in the same second."""
    names = [name.rpartition(":")[2].replace("/", "-") for name in (config.recipe, config.environment)]
    path = Path("runs") / f"{'-'.join(names)}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = (path, *(path.with_name(f"{path.name}-{number}") for number in range(2, 1000)))
    return next(candidate for candidate in candidates if not candidate.exists())


def first_state(config: RunConfig, program: Runnable, *, trust: bool = False) -> TrainState:
    """The state that a run starts from: a new one, with the parameters of another run if ``init_from`` is set."""
    state = program.start()
    return state if config.init_from is None else transfer(config.init_from, state, trust=trust)


@contextlib.contextmanager
def _shapes_fit() -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error


def compile_programs(phases: Sequence[Phase], programs: Sequence[Runnable], console: Console) -> float:
    """Compiles the programs of all phases; returns the seconds it took.

    Raises:
      ConfigError: shapes do not fit (minibatches that do not divide a rollout), which tracing finds.
      DoesNotFit: the run needs more memory than is free.
    """
    seconds = 0.0
    for phase, program in zip(phases, programs, strict=True):
        most = updates_per_call(phase.config, phase.built.num_updates)  # the last call may be shorter
        with console.status("compiling"), _shapes_fit():
            seconds += program.compile(most)
        refuse_what_cannot_fit(phase.config, program.memory_bytes(most), "training")
    console.print(f"compiled in {seconds:.1f} s", highlight=False)
    return seconds


def with_changes(config: RunConfig, **changes: object) -> RunConfig:
    """The configuration with the changes that are not None."""
    return dataclasses.replace(config, **{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]
