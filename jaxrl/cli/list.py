"""``jaxrl list``: prints the recipes, the environments, and their presets."""

from __future__ import annotations

import dataclasses
import textwrap
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
from jaxrl.runs.console import make_console
from jaxrl.runs.parts import PARTS
from jaxrl.runs.recipes import RECIPES, summary

LISTS = ("recipes", "environments", "presets")

SCREEN = 80
"""The width of the overview in columns; narrower on a narrower terminal."""

WIDE = 150
"""The width from which all environments that share a preset are printed on one line."""

NARROW = 22
"""The width of these names on a narrower terminal."""


@dataclasses.dataclass(frozen=True)
class ListFlags:
    """Print the recipes, the environments and the presets (the defaults of jaxrl train for a recipe and environment).

    Without an argument the command prints an overview that fits on a screen.
    """

    what: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="[{" + ",".join(LISTS) + "} | RECIPE | SUITE ...]", help_behavior_hint="(default: an overview)"
        ),
    ] = ()
    """One of the complete lists, the names of recipes whose presets to print, or a suite of environments: gymnasium."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see ``jaxrl.cli.main`` for errors and exit codes."""
    what = parse(ListFlags, arguments, prog="jaxrl list").what
    asked = [word for word in what if word not in (*LISTS, *RECIPES)]
    for word in asked:
        if word not in more_suites():
            hint = nearest(word, (*RECIPES, *LISTS, *more_suites()))
            raise UsageError(
                f"LIST: got '{word}', must be one of {', '.join(LISTS)}, a suite of environments "
                f"({', '.join(more_suites())}), or a recipe ({', '.join(RECIPES)}){hint}"
            )
    recipes = [word for word in what if word in RECIPES]
    console = make_console()
    if not what:
        print_overview(console)
    if "recipes" in what:
        print_recipes(console)
    if "environments" in what:
        print_environments(console, _environments())
        print_suites(console)
    for suite in asked:
        print_environments(console, _names_of(suite))
    if "presets" in what or recipes:
        print_presets(console, recipes)
    return 0


def print_overview(console: Console) -> None:
    """Prints one line per recipe and per suite of environments, and the commands that print more."""
    width = min(console.width, SCREEN)
    rows = {recipe: summary(recipe) for recipe in RECIPES}
    _print_lines(console, "recipes, as in jaxrl train RECIPE ENV", rows, width)
    listed = suites(_environments())
    rows = {f"{suite} ({len(names)})": ", ".join(names) for suite, names in listed.items()}
    rows["more suites"] = ", ".join(f"{suite}/NAME" for suite in more_suites())
    _print_lines(console, "environments", rows, width)
    rows = {f"--{name}": ", ".join(part.choices) for name, part in PARTS.items()}
    _print_lines(console, "parts of recipes", rows, width)
    rows = {
        "jaxrl list recipes": "these lines in full",
        "jaxrl list environments": "all names, and which suites are installed",
        "jaxrl list gymnasium": "the names of one of more suites",
        "jaxrl list presets": "the defaults for every recipe and environment",
        "jaxrl list ppo": "the defaults of one recipe",
    }
    _print_lines(console, "more", rows, width)


def _print_lines(console: Console, title: str, rows: Mapping[str, str], width: int) -> None:
    """Prints a title and one line per row, shortened between words to ``width``."""
    console.print(title, style="italic")
    names = max(map(len, rows))
    for name, text in rows.items():
        short = textwrap.shorten(text, width - names - 3, placeholder=" …").replace(", …", " …")
        console.print(f" {name:<{names}}  {short}", soft_wrap=True, markup=False)


def _environments() -> list[str]:
    """The names of all environments, with "-N" if a size may follow."""
    from jaxrl import envs  # gymnax takes seconds to import, and recipes and presets don't need it

    return [f"{name}-N" if name in envs.registry.SIZED else name for name in envs.available()]


def more_suites() -> list[str]:
    """The suites of environments whose names are listed by themselves, since that takes their package."""
    from jaxrl.envs.registry import ADAPTERS

    return [name for name, adapter in ADAPTERS.items() if not adapter.is_listed]


def _names_of(suite: str) -> list[str]:
    from jaxrl import envs

    return envs.available(suite)


def print_suites(console: Console) -> None:
    """Prints one line per suite: whether it is installed, or the command that installs it, or why none does."""
    from jaxrl.envs.registry import ADAPTERS, REFUSED

    console.print("suites, whose names jaxrl list SUITE prints", style="italic")
    rows = {
        name: "installed" if suite.is_installed else f'not installed: pip install "jaxrl[{suite.extra}]"'
        for name, suite in ADAPTERS.items()
    }
    rows |= {name: f"not supported: {reason}" for name, reason in REFUSED.items()}
    for name, state in rows.items():
        where = "outside JAX" if name in ADAPTERS and ADAPTERS[name].is_host else "JAX"
        console.print(f" {name + '/':<12} {where:<12} {state}", soft_wrap=True, markup=False, highlight=False)


def suites(names: Sequence[str]) -> dict[str, list[str]]:
    """Environments by suite: the prefix of a name, or the ending that gymnax gives it.

    >>> suites(["CartPole-v1", "Breakout-MinAtar", "pgx/hex", "Acrobot-v1"])
    {'classic control': ['CartPole-v1', 'Acrobot-v1'], 'MinAtar': ['Breakout-MinAtar'], 'pgx': ['pgx/hex']}
    """
    from jaxrl.envs.registry import OURS

    found: dict[str, list[str]] = {}
    for name in names:
        stem, dash, last = name.rpartition("-")
        suite = "classic control"
        if "/" in name:
            suite = name.partition("/")[0]
        elif name in OURS or (stem in OURS and last == "N"):
            suite = "jaxrl"
        elif dash and last.isalpha():
            suite = last
        found.setdefault(suite, []).append(name)
    return found


def print_recipes(console: Console) -> None:
    """Prints one line per recipe, shortened on a narrow terminal, and the choices of their parts."""
    cut = console.is_terminal
    console.print("recipes", style="italic")
    names = max(map(len, RECIPES))
    for recipe in RECIPES:
        line = f" {recipe:<{names}}  {summary(recipe)}"
        console.print(line, markup=False, no_wrap=True, overflow="ellipsis" if cut else "ignore", crop=cut)
    for name, part in PARTS.items():
        console.print(f"--{name}: {', '.join(part.choices)}", markup=False)


def print_environments(console: Console, names: Sequence[str]) -> None:
    """Prints names: in columns on a terminal, one per line in a pipe."""
    if console.is_terminal:
        console.print(Columns(names, padding=(0, 2)))
    else:
        for name in names:
            console.print(name, markup=False)


def print_presets(console: Console, recipes: Sequence[str]) -> None:
    """Prints the presets of some recipes, or of all: first those for any environment, then those for single ones."""
    console.print("presets: the defaults of jaxrl train that differ from the recipe's own", style="italic")
    rows = {
        recipe: [("any environment", preset(recipe, "")), *merged(PRESETS.get(recipe, {}))]
        for recipe in recipes or RECIPES
    }
    width = max(len(names) for listed in rows.values() for names, _ in listed)
    for recipe, listed in rows.items():
        table = Table(box=None, show_header=False)
        table.add_column(width=width if console.width >= WIDE else min(width, NARROW))
        table.add_column(overflow="fold")
        for names, row in listed:
            table.add_row(names, _settings(row))
        about = f": {summary(recipe)}" if recipes else ""
        console.print(f"[bold]{recipe}[/bold]{about}", markup=True)
        console.print(table)


def merged(rows: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Joins the names of equal rows and writes a common ending once.

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
    """Settings as ``name=value``; those of a part follow its name."""
    parts = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            parts.append(f"{name}={value['name']}")
            parts.append(_settings({size: width for size, width in value.items() if size != "name"}, f"{name}."))
        elif isinstance(value, tuple):  # in the form that the flag reads
            parts.append(f"{prefix}{name}={','.join(map(str, value))}")
        else:
            parts.append(f"{prefix}{name}={value:,}" if name in LOOP else f"{prefix}{name}={value}")
    return " ".join(part for part in parts if part)
