"""The flags of every run: its size, its folder and devices, and the choice of its parts."""

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
"""A placeholder for a default that depends on the recipe and the environment."""


def _of_preset(default: str) -> str:
    return f"(default: {'depends on recipe and environment' if default == str(UNKNOWN) else default})"


def _of_recipe(default: str) -> str:
    return "(default: the recipe's own)" if default == "None" else f"(default: {default})"


@dataclasses.dataclass(frozen=True)
class TrainFlags:
    """The settings of any run."""

    environment: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")]
    """Name of the environment; jaxrl list environments prints all. Or MODULE:NAME of a custom one."""
    num_steps: Annotated[int, tyro.conf.arg(aliases=("--steps",), help_behavior_hint=_of_preset)]
    """Environment steps per seed, over all its environments, such as 100k or 1e6; rounded down to whole updates."""
    num_envs: Annotated[int, tyro.conf.arg(help_behavior_hint=_of_preset)]
    """Environments per seed, which are stepped together."""
    rollout_length: Annotated[int, tyro.conf.arg(help_behavior_hint=_of_preset)]
    """Steps of each environment before an update."""
    seeds: int = 1
    """Number of seeds, which are trained together in one program."""
    seed: int = 0
    """The run's random seed, from which each seed gets its own key."""
    sweep: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]],
        tyro.conf.arg(metavar="NAME=VALUE,...", help_behavior_hint="(default: no sweep)"),
    ] = ()
    """Train several values of a float hyper-parameter in one program, with all seeds for each: learning_rate=1e-4,1e-3.
    Several sweeps train all combinations."""
    window: Annotated[int | None, tyro.conf.arg(metavar="K", help_behavior_hint="(default: one observation)")] = None
    """Stack the last K observations of the episode, the newest last, as memory for any torso."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: runs/RECIPE-ENV-TIME)")] = (
        None
    )
    """The run folder; it must be new or empty."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: the preset)")] = None
    """Defaults from a run's config.json, or from a YAML file with the same fields; flags override them."""
    eval_every: Annotated[
        int | None, tyro.conf.arg(metavar="STEPS", help_behavior_hint="(default: only at the end)")
    ] = None
    """Also evaluate during training, every STEPS environment steps per seed, without exploration."""
    eval_episodes: int = 128
    """Episodes per seed in an evaluation; 0 for none."""
    init_from: Annotated[Path | None, tyro.conf.arg(metavar="RUN", help_behavior_hint="(default: new parameters)")] = (
        None
    )
    """Start from the parameters of another run and reset everything else; seed i takes those of its seed i."""
    trust: tyro.conf.FlagCreatePairsOff[bool] = False
    """Import the modules that --config or --init-from name, even if you never trained with them on this machine."""
    devices: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: 1; all with --distributed)")] = None
    """Devices to split the run over: each has a share of the environments, and gradients are averaged."""
    seed_devices: int = 1
    """Groups of these devices to split the seeds over; environments are split within a group."""
    workers: int = 0
    """Threads of a2c, a3c or reinforce, each with its own environments and possibly old parameters; 0 for none."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print memory, compile time and the speed of a short probe, then stop."""
    wandb: tyro.conf.FlagCreatePairsOff[bool] = False
    """Also log to Weights & Biases; needs jaxrl[wandb]."""
    hosts: Annotated[HostFlags, tyro.conf.OmitArgPrefixes] = dataclasses.field(default_factory=HostFlags)


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """The arguments that the command adds to ``TrainFlags``."""

    recipe: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RECIPE")]
    """Name of the recipe; jaxrl list recipes prints all. Or MODULE:NAME of a custom one."""


def names() -> list[str]:
    """The names of the flags of ``TrainFlags``."""
    own = [field.name for field in dataclasses.fields(TrainFlags) if field.name not in ("environment", "hosts")]
    return ["--steps", *map(as_flag, own), *host_flags()]


def part_fields(parts: Iterable[str], chosen: Mapping[str, Chosen], shorthands: Iterable[str]) -> list[Any]:
    """Fields for ``make_dataclass``: one flag per part, and one per switch that abbreviates a choice of a part.

    Args:
      parts: names in ``PARTS``.
      chosen: their defaults; a part that is absent has the recipe's default.
      shorthands: names in ``SHORTHANDS``.
    """
    annotated: Any = Annotated  # a type checker would read its brackets as a type
    fields: list[Any] = []
    for part in parts:
        short = sorted(map(as_flag, PARTS[part].short))
        flag = tyro.conf.arg(
            metavar="{" + ",".join((*PARTS[part].choices, "MODULE:NAME")) + "}",
            help=f"{PARTS[part].help} Its settings are the flags {', '.join([f'--{part}.*', *short])}.",
            help_behavior_hint=_of_recipe,
        )
        fields.append((part, annotated[str | None, flag], chosen[part].name if part in chosen else None))
    for name in shorthands:
        part, off, on = SHORTHANDS[name]
        about = f"Short for --{part} {on}; {as_flag(f'no_{name}')} selects {off} instead."
        flag = tyro.conf.arg(help=about, help_behavior_hint="")
        fields.append((name, annotated[bool, flag], part in chosen and chosen[part].name == on))
    return fields


def print_help(description: str, prog: str) -> None:
    """Prints the flags that do not depend on the recipe.

    Raises:
      SystemExit: raised by tyro afterwards.
    """
    fields = part_fields(PARTS, {}, SHORTHANDS)
    kind = dataclasses.make_dataclass("Flags", fields, bases=(TrainFlags, _Recipe), frozen=True)
    start: Any = kind(recipe=tyro.MISSING, environment=tyro.MISSING, **dict.fromkeys(LOOP, UNKNOWN))
    parsing.parse(kind, ["--help"], prog=prog, description=description, default=start)
