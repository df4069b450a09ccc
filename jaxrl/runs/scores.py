"""The table of a run's matches."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table

from jaxrl.runs.config import RunConfig
from jaxrl.runs.console import print_titled
from jaxrl.training.match import Score


def print_scores(config: RunConfig, score: Score, opponent: str, console: Console, *, opening_moves: int) -> None:
    """Prints one row per member and one for all of them.

    Args:
      config: the configuration of the run.
      score: arrays ``[S, 2]``.
      opponent: the name of the opponent.
      console: the console to print to.
      opening_moves: the number of random moves at the start of every game.
    """
    wins, draws, losses = (np.asarray(column) for column in score)
    games = int((wins + draws + losses)[0].sum())
    openings = f", each after {opening_moves} random moves" if opening_moves else ""
    title = f"{config.recipe} on {config.environment} against {opponent}: {games} games per seed{openings}"
    table = Table()
    table.add_column("seed", no_wrap=True)
    for column in ("won", "drawn", "lost", "points", "as first", "as second"):
        table.add_column(column, justify="right", no_wrap=True)
    for member in config.members():
        label = str(member.seed) if config.sweep is None else member.label(config.sweep)
        table.add_row(label, *_cells(*(column[member.number] for column in (wins, draws, losses))))
    if config.num_members > 1:
        table.add_section()
        table.add_row(f"all {config.num_members}", *_cells(wins.sum(0), draws.sum(0), losses.sum(0)), style="bold")
    print_titled(console, title, table, "points: 1 for a win, 0.5 for a draw")
    points = np.asarray(score.points)
    if points.min() < points.max():
        worst = config.members()[int(points.argmin())].label(config.sweep)
        console.print(f"worst: {worst}, {points.min():.1%} of the points", highlight=False)


def _cells(wins: np.ndarray, draws: np.ndarray, losses: np.ndarray) -> list[str]:
    """The cells of arrays ``[2]``: the games begun and the others."""
    games, points = wins + draws + losses, wins + 0.5 * draws
    shares = [*(column.sum() / games.sum() for column in (wins, draws, losses, points)), *(points / games)]
    return [f"{share:.1%}" for share in shares]
