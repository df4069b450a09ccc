"""The flags of ``jaxrl train``: those of every run, and those that tyro makes of the recipe and the torso."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxrl import envs, networks
from jaxrl.agents.presets import LOOP, preset
from jaxrl.cli.errors import UsageError
from jaxrl.runs.config import RunConfig, Sweep, Torso
from jaxrl.runs.recipes import (
    RECIPES,
    TORSOS,
    Parameter,
    hyperparameters,
    lookup,
    summary,
    torso_name,
    torso_parameters,
)


@dataclasses.dataclass(frozen=True)
class TrainFlags:
    """What can be said of any run."""

    environment: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")]
    """Name of the environment; jaxrl list environments prints all."""
    num_steps: Annotated[int, tyro.conf.arg(aliases=("--steps",))]
    """Environment steps of each seed, all its environments together; rounded down to whole updates."""
    num_envs: int
    """Environments of each seed that act together."""
    rollout_length: int
    """Steps of each environment before an update."""
    torso: Annotated[str, tyro.conf.arg(metavar="{" + ",".join(TORSOS) + "}")]
    """The network under the heads; by default conv for images, mlp for the rest. Its sizes are the flags --torso.*."""
    seeds: int = 1
    """How many seeds are trained side by side, in one program."""
    seed: int = 0
    """Of the key that is split into one for each seed."""
    sweep: Annotated[str | None, tyro.conf.arg(metavar="NAME=VALUE,...")] = None
    """Train several values of one float hyper-parameter in one program, all seeds for each: learning_rate=1e-4,1e-3."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The run folder; by default runs/RECIPE-ENV-TIME. One that holds something is refused."""
    eval_episodes: int = 128
    """Episodes of each seed in the evaluation at the end; 0 for none."""
    init_from: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Start from the parameters of another run, all else fresh; seed i takes those of its seed i, counted round."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print memory, compile time and the speed of a short probe, then stop."""
    wandb: tyro.conf.FlagCreatePairsOff[bool] = False
    """Log to Weights & Biases too; needs jaxrl[wandb]."""


def parse(arguments: Sequence[str]) -> tuple[RunConfig, TrainFlags]:
    """Reads ``RECIPE ENV [flags]``; defaults are those of the preset.

    Raises:
      UsageError: no recipe or environment in its place, or a sweep that can't be read.
      UnknownName, UnknownEnvironment: with the nearest right name.
      SystemExit: for ``--help``, and for unknown flags or values of the wrong type, by tyro.
    """
    if not arguments or arguments[0].startswith("-"):
        raise UsageError(f"the recipe comes first: jaxrl train RECIPE ENV [flags] (recipes: {', '.join(RECIPES)})")
    recipe, rest = arguments[0], list(arguments[1:])
    lookup("recipe", recipe, RECIPES)
    environment = rest[0] if rest and not rest[0].startswith("-") else None
    if environment is None and not {"-h", "--help"} & set(rest):
        raise UsageError(f"the environment comes after the recipe: jaxrl train {recipe} ENV [flags]")
    defaults = preset(recipe, environment or "")
    torso = _torso_defaults(rest, environment, defaults.pop("torso", None))
    kind = _flags_of(recipe, torso, defaults)
    start = kind(environment=tyro.MISSING, torso=torso.name, **{name: defaults[name] for name in LOOP})
    where = f" (defaults are those for {environment})" if environment else ""
    flags = tyro.cli(
        kind, prog=f"jaxrl train {recipe}", description=f"{recipe}: {summary(recipe)}{where}", default=start, args=rest
    )
    return _config(recipe, flags), flags


def _torso_defaults(arguments: Sequence[str], environment: str | None, chosen: Mapping[str, Any] | None) -> Torso:
    """The torso whose sizes are to become flags: that of ``--torso``, of the preset, or the observation's default."""
    scan = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    scan.add_argument("--torso", nargs="?")
    named = scan.parse_known_args(arguments)[0].torso
    if chosen is not None:
        preferred = dict(chosen)
        default = TORSOS[preferred.pop("name")](**preferred)
    elif environment is not None:
        default = networks.default_torso(envs.spec(*envs.make(environment)).observation)
    else:
        default = networks.MLP()
    if named is not None and named != torso_name(default):
        default = lookup("torso", named, TORSOS)()
    name = torso_name(default)
    return Torso(name, {size: getattr(default, size) for size in torso_parameters(name)})


def _flags_of(recipe: str, torso: Torso, defaults: Mapping[str, Any]) -> type[TrainFlags]:
    """``TrainFlags`` with two groups more, made from the signatures of the recipe and of the torso."""
    hyper = {
        name: parameter._replace(default=defaults.get(name, parameter.default))
        for name, parameter in hyperparameters(recipe).items()
    }
    sizes = {
        name: parameter._replace(default=torso.arguments[name])
        for name, parameter in torso_parameters(torso.name).items()
    }
    # Tyro titles a group by its field's name.
    groups = {
        recipe: _group("Hyperparameters", hyper, prefix=""),
        torso.name: _group("TorsoSizes", sizes, prefix="torso."),
    }
    fields = [
        (name, Annotated[group, tyro.conf.OmitArgPrefixes], dataclasses.field(default_factory=group))
        for name, group in groups.items()
    ]
    return dataclasses.make_dataclass("Flags", fields, bases=(TrainFlags,), frozen=True)


def _group(name: str, parameters: Mapping[str, Parameter], prefix: str) -> type:
    """A dataclass with a field for each parameter, its help the docstring's."""
    annotated: Any = Annotated  # whose brackets a type checker would read as a type of its own
    fields = []
    for parameter in parameters.values():
        flag = prefix + parameter.name.replace("_", "-")
        annotation = annotated[parameter.type, tyro.conf.arg(name=flag, help=parameter.help)]
        fields.append((parameter.name, annotation, dataclasses.field(default=parameter.default)))
    return dataclasses.make_dataclass(name, fields, frozen=True)


def _config(recipe: str, flags: Any) -> RunConfig:
    sizes = dataclasses.asdict(getattr(flags, flags.torso))
    return RunConfig(
        recipe=recipe,
        environment=flags.environment,
        seed=flags.seed,
        seeds=flags.seeds,
        num_steps=flags.num_steps,
        num_envs=flags.num_envs,
        rollout_length=flags.rollout_length,
        # Lists, as JSON will give them back, would make a Flax module that can't be hashed.
        torso=Torso(flags.torso, {name: _as_tuple(value) for name, value in sizes.items()}),
        hyperparameters=dataclasses.asdict(getattr(flags, recipe)),
        sweep=None if flags.sweep is None else parse_sweep(flags.sweep),
        init_from=None if flags.init_from is None else str(flags.init_from.resolve()),
    )


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def parse_sweep(text: str) -> Sweep:
    """Reads ``name=value,value,...``.

    Raises:
      UsageError: anything else.
    """
    name, equals, values = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return Sweep(name.strip().replace("-", "_"), tuple(float(value) for value in values.split(",")))
    except ValueError:
        raise UsageError(f"--sweep: got '{text}', expected NAME=VALUE,VALUE,... as in gamma=0.9,0.99") from None
