"""``jaxrl list``: the recipes, the environments, and the presets of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import tyro
from rich.columns import Columns
from rich.console import Console
from rich.table import Table

from jaxrl.agents.presets import LOOP, PRESETS, preset
from jaxrl.cli.errors import UsageError
from jaxrl.cli.parsing import parse
from jaxrl.runs.parts import PARTS
from jaxrl.runs.recipes import RECIPES, nearest, summary


@dataclasses.dataclass(frozen=True)
class ListFlags:
    """Print what there is: recipes, environments, and the presets, which are the defaults of jaxrl train."""

    what: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[{recipes,presets,environments}]")] = "all"
    """Print this only."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see ``jaxrl.cli.main`` for errors and exit codes."""
    what = parse(ListFlags, arguments, prog="jaxrl list").what
    console = Console()
    shown = {"recipes": print_recipes, "presets": print_presets, "environments": print_environments}
    if what not in (*shown, "all"):
        raise UsageError(f"unknown list '{what}'{nearest(what, shown)} (lists: {', '.join(shown)})")
    for name, show in shown.items():
        if what in (name, "all"):
            show(console)
    return 0


def print_recipes(console: Console) -> None:
    """One line a recipe, and what their parts can be."""
    table = Table(title="recipes", title_justify="left", show_header=False, box=None)
    for recipe in RECIPES:
        table.add_row(recipe, summary(recipe))
    console.print(table)
    for name, part in PARTS.items():
        console.print(f"--{name}: {', '.join(part.choices)}", highlight=False)
    console.print()


def print_environments(console: Console) -> None:
    """All names, in columns."""
    from jaxrl import envs  # gymnax takes seconds to import, the other two parts are there at once

    console.print("\nenvironments", style="italic")
    console.print(Columns(envs.available(), padding=(0, 2)), "", highlight=False)


def print_presets(console: Console) -> None:
    """A row for each recipe and environment: the settings of the loop, and what differs from the recipe's defaults."""
    console.print("presets: the defaults of jaxrl train, where they are not the recipe's own", style="italic")
    for recipe in RECIPES:
        table = Table(box=None, title=f"\n{recipe}", title_justify="left", title_style="bold")
        table.add_column("environment", no_wrap=True)
        for column in ("steps", "envs", "rollout"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("hyper-parameters", overflow="fold")
        for environment in [*PRESETS.get(recipe, {}), "any other"]:
            values = preset(recipe, environment)
            loop = [f"{values.pop(name):,}" for name in LOOP]
            table.add_row(environment, *loop, _settings(values))
        console.print(table)


def _settings(values: Mapping[str, Any], prefix: str = "") -> str:
    """``name=value`` by ``name=value``; a torso with its sizes under it."""
    parts = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            parts.append(f"{name}={value['name']}")
            parts.append(_settings({size: width for size, width in value.items() if size != "name"}, f"{name}."))
        else:
            parts.append(f"{prefix}{name}={value}")
    return " ".join(part for part in parts if part)
