"""The flags of every run: those of its size and place, and those that choose its parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxrl.agents.presets import LOOP
from jaxrl.cli import parsing
from jaxrl.cli.hosts import HostFlags, host_flags
from jaxrl.cli.parsing import as_flag
from jaxrl.runs.config import Chosen
from jaxrl.runs.parts import PARTS
from jaxrl.runs.recipes import SHORTHANDS

UNKNOWN = 0
"""Stands for a default that is known once there are a recipe and an environment."""


def _of_preset(default: str) -> str:
    return f"(default: {'that of recipe and environment' if default == str(UNKNOWN) else default})"


def _of_recipe(default: str) -> str:
    return "(default: the recipe's own)" if default == "None" else f"(default: {default})"


@dataclasses.dataclass(frozen=True)
class TrainFlags:
    """What can be said of any run."""

    environment: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")]
    """Name of the environment; jaxrl list environments prints all."""
    num_steps: Annotated[int, tyro.conf.arg(aliases=("--steps",), help_behavior_hint=_of_preset)]
    """Environment steps of each seed, all its environments together; rounded down to whole updates."""
    num_envs: Annotated[int, tyro.conf.arg(help_behavior_hint=_of_preset)]
    """Environments of each seed that act together."""
    rollout_length: Annotated[int, tyro.conf.arg(help_behavior_hint=_of_preset)]
    """Steps of each environment before an update."""
    seeds: int = 1
    """How many seeds are trained side by side, in one program."""
    seed: int = 0
    """Of the key that is split into one for each seed."""
    sweep: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]],
        tyro.conf.arg(metavar="NAME=VALUE,...", help_behavior_hint="(default: no sweep)"),
    ] = ()
    """Train several values of a float hyper-parameter in one program, all seeds for each: learning_rate=1e-4,1e-3. With
    several of them, all combinations are trained."""
    window: Annotated[int | None, tyro.conf.arg(metavar="K", help_behavior_hint="(default: the observation alone)")] = (
        None
    )
    """Show the last K observations of the episode at once, the newest last: memory for any torso."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: runs/RECIPE-ENV-TIME)")] = (
        None
    )
    """The run folder; one that holds something is refused."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: the preset)")] = None
    """Defaults from a run's config.json, or from a YAML file of the same fields; flags change them."""
    eval_every: Annotated[
        int | None, tyro.conf.arg(metavar="STEPS", help_behavior_hint="(default: at the end alone)")
    ] = None
    """Evaluate every so many environment steps of each seed on the way, too, without exploration."""
    eval_episodes: int = 128
    """Episodes of each seed in an evaluation; 0 for none."""
    init_from: Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="(default: all fresh)")] = None
    """Start from the parameters of another run, all else fresh; seed i takes those of its seed i."""
    trust: tyro.conf.FlagCreatePairsOff[bool] = False
    """Import the modules that --config or --init-from name, though you never trained with them on this machine."""
    devices: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: 1; all with --distributed)")] = None
    """Devices to split the run over: each has a part of the environments, gradients are averaged."""
    seed_devices: int = 1
    """Groups of those devices to split the seeds over; environments are split within a group."""
    workers: int = 0
    """Threads of a2c, a3c or reinforce, each with environments and (possibly old) parameters of its own; 0 for none."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print memory, compile time and the speed of a short probe, then stop."""
    wandb: tyro.conf.FlagCreatePairsOff[bool] = False
    """Log to Weights & Biases too; needs jaxrl[wandb]."""
    hosts: Annotated[HostFlags, tyro.conf.OmitArgPrefixes] = dataclasses.field(default_factory=HostFlags)


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """What ``TrainFlags`` leaves to the command."""

    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    """Name of the agent; jaxrl list recipes prints all."""


def names() -> list[str]:
    """The flags of ``TrainFlags``."""
    own = [field.name for field in dataclasses.fields(TrainFlags) if field.name not in ("environment", "hosts")]
    return ["--steps", *map(as_flag, own), *host_flags()]


def part_fields(parts: Iterable[str], chosen: Mapping[str, Chosen], shorthands: Iterable[str]) -> list[Any]:
    """Fields for ``make_dataclass``: a flag for each part, and one for each switch that chooses a part in short.

    Args:
      parts: names in ``PARTS``.
      chosen: what they are by default; a part that is absent is left to the recipe.
      shorthands: names in ``SHORTHANDS``.
    """
    annotated: Any = Annotated  # whose brackets a type checker would read as a type of its own
    fields: list[Any] = []
    for part in parts:
        flag = tyro.conf.arg(
            metavar="{" + ",".join(PARTS[part].choices) + "}",
            help=f"{PARTS[part].help} Its settings are the flags --{part}.*.",
            help_behavior_hint=_of_recipe,
        )
        fields.append((part, annotated[str | None, flag], chosen[part].name if part in chosen else None))
    for name in shorthands:
        part, off, on = SHORTHANDS[name]
        about = f"Short for --{part} {on}; {as_flag(f'no_{name}')} takes {off} in its place."
        flag = tyro.conf.arg(help=about, help_behavior_hint="")
        fields.append((name, annotated[bool, flag], part in chosen and chosen[part].name == on))
    return fields


def print_help(description: str, prog: str) -> None:
    """Prints the flags that do not depend on the recipe.

    Raises:
      SystemExit: by tyro, after it.
    """
    fields = part_fields(PARTS, {}, SHORTHANDS)
    kind = dataclasses.make_dataclass("Flags", fields, bases=(TrainFlags, _Recipe), frozen=True)
    start: Any = kind(recipe=tyro.MISSING, environment=tyro.MISSING, **dict.fromkeys(LOOP, UNKNOWN))
    parsing.parse(kind, ["--help"], prog=prog, description=description, default=start)
