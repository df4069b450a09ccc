"""``jaxrl resume``: goes on from a checkpoint as if nothing had happened."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import tyro

from jaxrl import processes
from jaxrl.cli.errors import UsageError
from jaxrl.cli.flags import default_devices
from jaxrl.cli.hosts import HostFlags, host_flags
from jaxrl.cli.memory import refuse_what_cannot_fit
from jaxrl.cli.parsing import as_flag, parse
from jaxrl.cli.train import compile_program, first_state
from jaxrl.runs.building import build, make_mesh, make_program
from jaxrl.runs.config import RunConfig
from jaxrl.runs.console import make_console
from jaxrl.runs.finish import finish
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.loading import check_update
from jaxrl.runs.loggers import import_wandb
from jaxrl.runs.metrics import MetricsWriter
from jaxrl.runs.session import Session
from jaxrl.training.host import updates_done
from jaxrl.training.loop import TrainState
from jaxrl.training.program import Runnable


@dataclasses.dataclass(frozen=True)
class ResumeFlags:
    """Go on with a run from its last checkpoint; on as many devices, the result is the unbroken run's, bit for bit."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder."""
    num_steps: Annotated[
        int | None, tyro.conf.arg(aliases=("--steps",), help_behavior_hint="(default: that of the run)")
    ] = None
    """A new budget, in environment steps of each seed from the start of the run; schedules follow it from here on."""
    update: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: the last)")] = None
    """Go on from the checkpoint of this update; what came later is dropped."""
    eval_episodes: int = 128
    """Episodes of each seed in the evaluation at the end; 0 for none."""
    wandb: tyro.conf.FlagCreatePairsOff[bool] = False
    """Log to Weights & Biases too; needs jaxrl[wandb]."""
    devices: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: as before; all with --distributed)")] = (
        None
    )
    """Devices to split the run over; on others than before it goes on with other random numbers."""
    seed_devices: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: as before)")] = None
    """Groups of those devices to split the seeds over."""
    hosts: Annotated[HostFlags, tyro.conf.OmitArgPrefixes] = dataclasses.field(default_factory=HostFlags)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see ``jaxrl.cli.main`` for errors and exit codes."""
    known = [as_flag(field.name) for field in dataclasses.fields(ResumeFlags) if field.name not in ("run", "hosts")]
    flags = parse(ResumeFlags, arguments, prog="jaxrl resume", flags=["--steps", *known, *host_flags()])
    if flags.eval_episodes < 0:
        raise UsageError(f"--eval-episodes: got {flags.eval_episodes}, must be at least 0")
    if flags.wandb:
        import_wandb()
    console, folder = make_console(quiet=not processes.is_first()), RunFolder(flags.run)
    before = folder.read_config()
    config = _changed(before, flags)
    _refuse_fewer_devices(folder, config, flags)
    mesh, built = make_mesh(config), build(config)
    program = make_program(config, built, mesh)
    refuse_what_cannot_fit(config, program.state_bytes())
    if flags.update is not None:
        check_update(folder, config, flags.update)
    done = max(folder.checkpoints(config).updates(), default=0) if flags.update is None else flags.update
    _refuse_finished(folder, config, flags, done, built.num_updates)
    compile_program(config, built, program, console)
    state = _state(folder, config, program, flags.update)
    done = updates_done(state)
    if processes.is_first():
        MetricsWriter(folder.metrics_file, config).cut(done)
        folder.checkpoints(config).rewind(done)
        folder.snapshots(config).rewind(done)
        folder.write_config(config)
    console.print(f"going on from update {done} of {built.num_updates}", highlight=False)
    if (config.devices, config.seed_devices) != (before.devices, before.seed_devices):
        on = f"{config.devices} device{'s' if config.devices > 1 else ''}"
        console.print(f"on {on}, {before.devices} before: with other random numbers", highlight=False)
    session = Session(folder, config, built, program, console, wandb=flags.wandb)
    finish(folder, config, built, session.train(state), flags.eval_episodes, console)
    return 0


def _changed(config: RunConfig, flags: ResumeFlags) -> RunConfig:
    """The configuration with what the flags say anew."""
    devices = default_devices() if processes.are_many() else config.devices
    return dataclasses.replace(
        config,
        num_steps=config.num_steps if flags.num_steps is None else flags.num_steps,
        devices=devices if flags.devices is None else flags.devices,
        seed_devices=config.seed_devices if flags.seed_devices is None else flags.seed_devices,
    )


def _refuse_fewer_devices(folder: RunFolder, config: RunConfig, flags: ResumeFlags) -> None:
    """Refuses a run on more devices than there are, where nobody said on how many it is to go on."""
    there = jax.device_count()
    if flags.devices is not None or config.devices <= there:
        return
    one = "--devices 1" if config.seed_devices == 1 else "--devices 1 --seed-devices 1"
    raise UsageError(
        f"{folder.path} had {config.devices} devices, and there {'is' if there == 1 else 'are'} {there}; "
        f"on one it goes on with other random numbers: jaxrl resume {folder.path} {one}"
    )


def _refuse_finished(folder: RunFolder, config: RunConfig, flags: ResumeFlags, done: int, num_updates: int) -> None:
    if done < num_updates:
        return
    taken = done * config.num_envs * config.rollout_length
    if flags.num_steps is not None:
        raise UsageError(f"--steps: got {flags.num_steps}, must be beyond the {taken} that {folder.path} has done")
    raise UsageError(
        f"{folder.path} is finished, with {taken} steps of each seed; "
        f"a larger budget goes on with it: jaxrl resume {folder.path} --steps {2 * taken}"
    )


def _state(folder: RunFolder, config: RunConfig, program: Runnable, update: int | None) -> TrainState:
    """The state of a checkpoint; the first one where the run was stopped before it saved any."""
    checkpoints = folder.checkpoints(config)
    if checkpoints.updates() or update is not None:
        return checkpoints.restore(program.abstract_state(), update)
    return first_state(config, program)
