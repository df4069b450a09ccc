"""``jaxrl evaluate``: whole episodes with a trained run, as a table and as a picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import tyro
from rich.console import Console

from jaxrl.cli.errors import UsageError
from jaxrl.cli.evaluation import evaluate_members, evaluation_keys, max_steps, one_value, print_table
from jaxrl.cli.parsing import parse
from jaxrl.runs.building import Built
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.loading import check_seed, first_member, restore
from jaxrl.types import PyTree


@dataclasses.dataclass(frozen=True)
class EvaluateFlags:
    """Play whole episodes with every seed of a run and print their returns; of a sweep, a row for each value."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder."""
    episodes: int = 128
    """Episodes of each seed."""
    explore: tyro.conf.FlagCreatePairsOff[bool] = False
    """Sample the policy; else take its most likely action."""
    seed: int = 0
    """Another one gives other episodes."""
    update: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: the last)")] = None
    """Evaluate the checkpoint of this update."""
    gif: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: no picture)")] = None
    """Draw episodes of one seed into this file too; of a sweep, --value says which."""
    gif_episodes: int = 1
    """How many episodes are drawn."""
    gif_seed: int = 0
    """Which seed is drawn."""
    value: Annotated[float | None, tyro.conf.arg(help_behavior_hint="(default: all values)")] = None
    """In a sweep: play with the seeds of this value alone, each with a row of its own."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see ``jaxrl.cli.main`` for errors and exit codes."""
    flags = parse(EvaluateFlags, arguments, prog="jaxrl evaluate")
    for name in ("episodes", "gif_episodes"):
        if getattr(flags, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')}: got {getattr(flags, name)}, must be at least 1")
    if flags.gif is not None and flags.gif.suffix.lower() != ".gif":
        raise UsageError(f"--gif: got {flags.gif}, must end in .gif")
    console = Console()
    config = RunFolder(flags.run).read_config()
    check_seed(config, flags.run, flags.gif_seed)
    if flags.value is not None or (flags.gif is not None and config.sweep is not None):
        first_member(config, flags.run, flags.value)
    config, built, state = restore(flags.run, flags.update)
    agents = state.agent
    if flags.value is not None:
        config, built, agents = one_value(config, built, agents, first_member(config, flags.run, flags.value))
    with console.status("evaluating"):
        episodes = evaluate_members(built, agents, num_episodes=flags.episodes, explore=flags.explore, seed=flags.seed)
    print_table(config, episodes, console, explore=flags.explore)
    if flags.gif is not None:
        _draw(flags, built, agents, console)
    return 0


def _draw(flags: EvaluateFlags, built: Built, agents: PyTree, console: Console) -> None:
    from jaxrl.cli.render import draw_episodes, record_episodes

    assert flags.gif is not None
    with console.status("drawing"):
        recorded = record_episodes(
            evaluation_keys(built, flags.seed)[flags.gif_seed],
            built.agent(flags.gif_seed),
            jax.tree.map(lambda leaf: leaf[flags.gif_seed], agents),
            built.env,
            built.params,
            num_episodes=flags.gif_episodes,
            max_steps=max_steps(built),
            explore=flags.explore,
        )
        draw_episodes(flags.gif, built.env, built.params, recorded)
    returns = ", ".join(f"{episode.returns[-1]:.1f}" for episode in recorded)
    console.print(f"drawn: {flags.gif} (returns {returns})", soft_wrap=True, highlight=False)
