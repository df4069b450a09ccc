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
from jaxrl.arguments import nearest
from jaxrl.cli.errors import UsageError
from jaxrl.cli.parsing import parse
from jaxrl.runs.parts import PARTS
from jaxrl.runs.recipes import RECIPES, summary

LISTS = ("recipes", "environments", "presets")

WIDE = 150
"""Columns of a terminal from which on the names of environments that share a preset go into one line."""

NARROW = 22
"""Columns that names get in a terminal which is not."""


@dataclasses.dataclass(frozen=True)
class ListFlags:
    """Print what there is: recipes, environments, and the presets, which are the defaults of jaxrl train."""

    what: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="[{" + ",".join(LISTS) + "} | RECIPE ...]", help_behavior_hint="(default: all)"),
    ] = ()
    """Print this list alone, or these recipes with their presets."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see ``jaxrl.cli.main`` for errors and exit codes."""
    what = parse(ListFlags, arguments, prog="jaxrl list").what
    for word in what:
        if word not in (*LISTS, *RECIPES):
            hint = nearest(word, (*RECIPES, *LISTS))
            raise UsageError(
                f"no recipe and no list '{word}'{hint} (recipes: {', '.join(RECIPES)}; lists: {', '.join(LISTS)})"
            )
    recipes = [word for word in what if word in RECIPES]
    console = Console()
    if "recipes" in what or not what:
        print_recipes(console)
    if "environments" in what or not what:
        print_environments(console)
    if "presets" in what or recipes or not what:
        print_presets(console, recipes)
    return 0


def print_recipes(console: Console) -> None:
    """One line a recipe, cut where a terminal is too narrow, and what their parts can be."""
    cut = console.is_terminal
    console.print("recipes", style="italic")
    names = max(map(len, RECIPES))
    for recipe in RECIPES:
        line = f" {recipe:<{names}}  {summary(recipe)}"
        console.print(line, highlight=False, no_wrap=True, overflow="ellipsis" if cut else "ignore", crop=cut)
    for name, part in PARTS.items():
        console.print(f"--{name}: {', '.join(part.choices)}", highlight=False)
    console.print()


def print_environments(console: Console) -> None:
    """All names, in columns."""
    from jaxrl import envs  # gymnax takes seconds to import, the other two parts are there at once

    console.print("environments", style="italic")
    names = [f"{name}-N" if name in envs.registry.SIZED else name for name in envs.available()]
    console.print(Columns(names, padding=(0, 2)), "", highlight=False)


def print_presets(console: Console, recipes: Sequence[str]) -> None:
    """The presets of some recipes, or of all: what holds everywhere, then what an environment has beside or instead."""
    console.print("presets: the defaults of jaxrl train, where they are not the recipe's own", style="italic")
    rows = {
        recipe: [("anywhere", preset(recipe, "")), *merged(PRESETS.get(recipe, {}))] for recipe in recipes or RECIPES
    }
    width = max(len(names) for listed in rows.values() for names, _ in listed)
    for recipe, listed in rows.items():
        table = Table(box=None, show_header=False)
        table.add_column(width=width if console.width >= WIDE else min(width, NARROW))
        table.add_column(overflow="fold")
        for names, row in listed:
            table.add_row(names, _settings(row))
        about = f": {summary(recipe)}" if recipes else ""
        console.print(f"[bold]{recipe}[/bold]{about}", highlight=False)
        console.print(table)


def merged(rows: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Rows by name, with the names of equal ones joined; what their names end in alike is said once.

    >>> merged({"Freeway-MinAtar": {"seeds": 2}, "Catch-bsuite": {}, "Asterix-MinAtar": {"seeds": 2}})
    [('Freeway, Asterix-MinAtar', {'seeds': 2}), ('Catch-bsuite', {})]
    """
    groups: list[tuple[list[str], Mapping[str, Any]]] = []
    for name, row in rows.items():
        same = next((names for names, other in groups if other == row), None)
        if same is None:
            groups.append(([name], row))
        else:
            same.append(name)
    return [(_joined(names), row) for names, row in groups]


def _joined(names: Sequence[str]) -> str:
    suffixes = {name.rpartition("-")[2] for name in names}
    *stems, last = names
    if len(suffixes) == 1:
        stems = [stem.rpartition("-")[0] for stem in stems]
    return ", ".join([*stems, last])


def _settings(values: Mapping[str, Any], prefix: str = "") -> str:
    """``name=value`` by ``name=value``; a part's settings under its name."""
    parts = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            parts.append(f"{name}={value['name']}")
            parts.append(_settings({size: width for size, width in value.items() if size != "name"}, f"{name}."))
        elif isinstance(value, tuple):  # as the flag takes it
            parts.append(f"{prefix}{name}={','.join(map(str, value))}")
        else:
            parts.append(f"{prefix}{name}={value:,}" if name in LOOP else f"{prefix}{name}={value}")
    return " ".join(part for part in parts if part)
