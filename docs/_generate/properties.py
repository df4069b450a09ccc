"""The table of recipes and what they can do, found by asking each of them: what it refuses, it can't."""

from __future__ import annotations

import contextlib
import inspect
import io
from collections.abc import Iterator

from jaxrl.cli.flags import parse
from jaxrl.runs.building import build
from jaxrl.runs.recipes import RECIPES

ENVIRONMENTS = {
    "discrete actions": ("CartPole-v1", "FrozenLake-misc", "TwoBox"),
    "continuous actions": ("Pendulum-v1",),
    "images": ("Breakout-MinAtar",),
    "action masks": ("jaxrl.envs.probes:MaskedProbe", "pgx/tic_tac_toe"),
    "games for two": ("pgx/tic_tac_toe",),
    "outside JAX": ("gymnasium/CartPole-v1", "gymnasium/Pendulum-v1", "gymnasium/FrozenLake-v1"),
    "texts": ("Reverse-4",),
}
"""Environments that have a property; a recipe has it if it takes one of them."""

FLAGS = {
    "recurrent": "--torso gru",
    "transformer": "--torso transformer",
    "devices": "--devices 2 --num-envs 4",
    "threads": "--workers 2",
    "feedback": "--feedback preferences",
}
"""Flags that need a property, tried in an environment that the recipe takes."""

ARGUMENTS = {"replay": ("replay", "replay_capacity"), "own loss": ("loss",)}
"""Arguments of recipes that have a property."""


def takes(command: str) -> bool:
    """Whether a command line of ``jaxrl train`` would begin to train."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            build(parse(command.split())[0]).agent(0)
        except (Exception, SystemExit):
            return False
    return True


def properties(name: str) -> Iterator[tuple[str, bool]]:
    """Each property, and whether the recipe has it."""
    home = None
    for label, environments in ENVIRONMENTS.items():
        found = next((environment for environment in environments if takes(f"{name} {environment}")), None)
        home = home or found
        yield label, found is not None
    for label, flag in FLAGS.items():
        yield label, home is not None and takes(f"{name} {home} {flag}")
    for label, arguments in ARGUMENTS.items():
        yield label, any(argument in inspect.signature(RECIPES[name]).parameters for argument in arguments)


def table() -> str:
    """The table in Markdown."""
    columns = [*ENVIRONMENTS, *FLAGS, *ARGUMENTS]
    lines = [f"| recipe | {' | '.join(columns)} |", f"|---|{':-:|' * len(columns)}"]
    for name in RECIPES:
        has = dict(properties(name))
        lines.append(f"| [{name}]({name}.md) | {' | '.join('yes' if has[label] else '' for label in columns)} |")
    return "\n".join(lines) + "\n"
