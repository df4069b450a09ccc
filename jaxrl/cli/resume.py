"""``jaxrl resume``: continues a run from a checkpoint, with the same result as without the interruption."""

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
from jaxrl.cli.parsing import as_flag, parse
from jaxrl.runs.config import RunConfig
from jaxrl.runs.console import make_console
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.judging import with_server
from jaxrl.runs.starting import continue_run, with_changes


@dataclasses.dataclass(frozen=True)
class ResumeFlags:
    """Continue a run from its last checkpoint. On the same devices the result equals the uninterrupted run's."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder."""
    num_steps: Annotated[int | None, tyro.conf.arg(aliases=("--steps",), help_behavior_hint="(default: the run's)")] = (
        None
    )
    """A new budget, in environment steps per seed since the start of the run; schedules follow it from here on."""
    update: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: the last)")] = None
    """Continue from the checkpoint of this update; later progress is dropped."""
    eval_every: Annotated[int | None, tyro.conf.arg(metavar="STEPS", help_behavior_hint="(default: the run's)")] = None
    """Also evaluate during training, every STEPS environment steps per seed."""
    eval_episodes: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: the run's)")] = None
    """Episodes per seed in an evaluation; 0 for none."""
    judge_url: Annotated[str | None, tyro.conf.arg(metavar="URL", help_behavior_hint="(default: the run's)")] = None
    """The address of the judge's server, where it has moved."""
    judge_calls: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: the run's)")] = None
    """The most requests of the run to its judge, those so far included."""
    trust: tyro.conf.FlagCreatePairsOff[bool] = False
    """Import the modules that the run names, even if you never trained with them on this machine."""
    wandb: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also log to Weights & Biases; needs jaxrl[wandb]."""
    devices: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: as before; all with --distributed)")] = (
        None
    )
    """Devices to split the run over; a different number changes the random numbers."""
    seed_devices: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: as before)")] = None
    """Groups of these devices to split the seeds over."""
    hosts: Annotated[HostFlags, tyro.conf.OmitArgPrefixes] = dataclasses.field(default_factory=HostFlags)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see ``jaxrl.cli.main`` for errors and exit codes."""
    known = [as_flag(field.name) for field in dataclasses.fields(ResumeFlags) if field.name not in ("run", "hosts")]
    flags = parse(ResumeFlags, arguments, prog="jaxrl resume", flags=["--steps", *known, *host_flags()])
    if flags.eval_episodes is not None and flags.eval_episodes < 0:
        raise UsageError(f"--eval-episodes: got {flags.eval_episodes}, must be at least 0")
    folder = RunFolder(flags.run)
    before = folder.read_config(trust=flags.trust)
    config = with_changes(
        before,
        num_steps=flags.num_steps,
        devices=flags.devices if flags.devices is not None or not processes.are_many() else default_devices(),
        seed_devices=flags.seed_devices,
        eval_every=flags.eval_every,
        eval_episodes=flags.eval_episodes,
    )
    config = with_server(config, judge_url=flags.judge_url, judge_calls=flags.judge_calls)
    _refuse_fewer_devices(folder, config, flags)
    console = make_console(quiet=not processes.is_first())
    continue_run(folder, config, before, console=console, update=flags.update, wandb=flags.wandb, trust=flags.trust)
    return 0


def _refuse_fewer_devices(folder: RunFolder, config: RunConfig, flags: ResumeFlags) -> None:
    """Refuses to continue on fewer devices than before unless the number is given."""
    there = jax.device_count()
    if flags.devices is not None or config.devices <= there:
        return
    one = "--devices 1" if config.seed_devices == 1 else "--devices 1 --seed-devices 1"
    raise UsageError(
        f"{folder.path} was trained on {config.devices} devices, and there {'is' if there == 1 else 'are'} {there}; "
        f"to continue on one, with other random numbers: jaxrl resume {folder.path} {one}"
    )
