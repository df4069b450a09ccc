"""``jaxrl elo``: the ratings of a run's players over its training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from jaxrl.cli.errors import UsageError
from jaxrl.cli.parsing import as_flag, parse, swept_value
from jaxrl.cli.plot import FORMATS
from jaxrl.cli.rating_curves import RatingCurve, draw_ratings
from jaxrl.cli.tournament import Tournament, pairings
from jaxrl.runs.config import RunConfig
from jaxrl.runs.console import make_console, print_titled
from jaxrl.runs.folder import RunError, RunFolder
from jaxrl.runs.kinds import kind_of_run
from jaxrl.runs.loading import first_member, restore_players
from jaxrl.runs.matches import UCT_SIMULATIONS, random_side, side_of, uct_side
from jaxrl.runs.progress import MatchProgress
from jaxrl.runs.snapshots import saved_updates
from jaxrl.training.ratings import fit_ratings


@dataclasses.dataclass(frozen=True)
class EloFlags:
    """Rate the snapshots of a run in a two-player game by Elo, and draw the ratings over training.

    Each snapshot plays against some earlier ones, a random player, and plain tree search (UCT). The ratings maximise
    the likelihood of the results, with the random player at 0. Each seed is rated separately.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder."""
    games: int = 64
    """Games per pair of players. It must be even, since each side begins half of them."""
    predecessors: int = 3
    """Number of earlier snapshots that each snapshot plays against."""
    simulations: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: as it was trained)")] = None
    """Simulations per move of the run's players, if their recipe searches."""
    uct_simulations: int = UCT_SIMULATIONS
    """Simulations per move of UCT; 0 leaves UCT out."""
    opening_moves: int = 2
    """Random moves at the start of every game; without them, two deterministic players repeat the same game."""
    seeds: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: all)")] = None
    """Rate only the first N seeds."""
    value: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NUMBER|NAME=NUMBER ...", help_behavior_hint="(default: no sweep)")
    ] = ()
    """Value of the sweep whose seeds are rated; for several sweeps, one NAME=NUMBER for each."""
    trust: tyro.conf.FlagCreatePairsOff[bool] = False
    """Import the modules that the run names, even if you never trained with them on this machine."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: RUN/elo.png)")] = None
    """The picture; the ending selects the format."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see ``jaxrl.cli.main`` for errors and exit codes."""
    flags = parse(EloFlags, arguments, prog="jaxrl elo")
    folder = RunFolder(flags.run)
    config = folder.read_config(trust=flags.trust)
    if not kind_of_run(folder).has_sides:
        raise UsageError(f"RUN: got {flags.run}, trained in {config.environment}, must be a run in a two-player game")
    out = flags.out or folder.path / "elo.png"
    _check(flags, config, out)
    console, updates = make_console(), saved_updates(folder, config)
    if not updates:
        raise RunError(f"{folder.path} has no checkpoint yet; start it with jaxrl resume {folder.path}")
    curve = rate(flags, config, updates, console)
    _print(config, updates, curve, console)
    draw_ratings(curve, f"{config.recipe} on {config.environment}", out)
    console.print(f"drawn: {out}", soft_wrap=True, highlight=False)
    return 0


def _check(flags: EloFlags, config: RunConfig, out: Path) -> None:
    for name, least in (
        ("games", 2),
        ("predecessors", 0),
        ("simulations", 1),
        ("uct_simulations", 0),
        ("opening_moves", 0),
        ("seeds", 1),
    ):
        given = getattr(flags, name)
        if given is not None and given < least:
            raise UsageError(f"{as_flag(name)}: got {given}, must be at least {least}")
    if flags.games % 2:
        raise UsageError(f"--games: got {flags.games}, must be even, because each side begins half of them")
    if flags.seeds is not None and flags.seeds > config.seeds:
        raise UsageError(f"--seeds: got {flags.seeds}, must be at most {config.seeds}, the seeds of {flags.run}")
    if out.is_dir() or out.suffix.lower() not in FORMATS:
        raise UsageError(f"--out: got {out}, must be a file that ends in one of {', '.join(FORMATS)}")


def rate(flags: EloFlags, config: RunConfig, updates: Sequence[int], console: Console) -> RatingCurve:
    """Plays the tournaments of all seeds and rates their players."""
    first = first_member(config, flags.run, swept_value(flags.value))
    members = range(first, first + (flags.seeds or config.seeds))
    num_anchors = 2 if flags.uct_simulations else 1
    matches = len(pairings(num_anchors, len(updates), flags.predecessors)) * len(members)
    console.print(f"{matches} matches of {flags.games} games each", highlight=False)
    restored = [
        restore_players(flags.run, update, simulations=flags.simulations, trust=flags.trust) for update in updates
    ]
    built = restored[0][1]
    anchors = [random_side(built), *([uct_side(built, flags.uct_simulations)] if flags.uct_simulations else [])]
    tournament = Tournament(
        built,
        anchors,
        [side_of(f"update {update}", built, states) for update, (*_, states) in zip(updates, restored, strict=True)],
        predecessors=flags.predecessors,
        num_games=flags.games,
        opening_moves=flags.opening_moves,
    )
    with MatchProgress(console, matches) as progress:
        points = [tournament.play(member, progress.advance) for member in members]
    ratings = [fit_ratings(each) for each in points]
    elo, error = (np.stack([getattr(rating, name) for rating in ratings]) for name in ("elo", "error"))
    return RatingCurve(
        env_steps=np.array([config.steps_at(update) for update in updates]),
        elo=elo[:, len(anchors) :],
        error=error[:, len(anchors) :],
        anchors={side.name: elo[:, index] for index, side in enumerate(anchors)},
    )


def _print(config: RunConfig, updates: Sequence[int], curve: RatingCurve, console: Console) -> None:
    seeds = len(curve.elo)
    title = f"{config.recipe} on {config.environment}: Elo" + (f", mean of {seeds} seeds" if seeds > 1 else "")
    table = Table()
    table.add_column("player", no_wrap=True)
    for column in ("env steps", "Elo", "std error", *(["lowest", "highest"] if seeds > 1 else [])):
        table.add_column(column, justify="right", no_wrap=True)
    for name, elo in curve.anchors.items():
        table.add_row(name, "-", *_cells(elo, None))
    table.add_section()
    for index, (update, steps) in enumerate(zip(updates, curve.env_steps, strict=True)):
        table.add_row(f"update {update}", f"{steps}", *_cells(curve.elo[:, index], curve.error[:, index]))
    print_titled(console, title, table, "The standard errors are those of a finite number of games.")


def _cells(elo: np.ndarray, error: np.ndarray | None) -> list[str]:
    """The mean of ratings ``[S]``, its standard error, and the extremes if there are several seeds."""
    mean_error = "-" if error is None else f"{np.sqrt((error**2).sum()) / len(error):.0f}"
    cells = [f"{elo.mean():.0f}", mean_error]
    return cells if len(elo) == 1 else [*cells, f"{elo.min():.0f}", f"{elo.max():.0f}"]
