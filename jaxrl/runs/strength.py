"""Strength of play over training: the scores of a run's snapshots against a random player."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from jaxrl.runs.config import RunConfig
from jaxrl.runs.evaluation import evaluation_keys
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.matches import make_match, random_side, side_of
from jaxrl.runs.metrics import MetricsWriter
from jaxrl.runs.snapshots import without_replay
from jaxrl.runs.trainers import trainer_of

if TYPE_CHECKING:
    from jaxrl.runs.building import Built

GAMES = 64
"""The largest number of games that a snapshot plays for the curve."""


def write_scores(folder: RunFolder, config: RunConfig, built: Built, num_games: int) -> None:
    """Plays matches with the players of every snapshot and writes scores.csv, whose columns are those of metrics.csv.

    Args:
      folder: the run.
      config: its configuration.
      built: its environment and agent.
      num_games: games per snapshot and member, at most ``GAMES``; each side begins half of them.
    """
    games = min(num_games + num_games % 2, GAMES)
    snapshots, keys = folder.snapshots(config), evaluation_keys(built, 0)
    template, other = (
        without_replay(trainer_of(config).make(config, built, None).abstract_state().agent),
        random_side(built),
    )
    play, writer = None, MetricsWriter(folder.scores_file, config)
    folder.scores_file.unlink(missing_ok=True)
    for update in snapshots.updates():
        players = side_of("run", built, snapshots.restore(template, update))
        play = play or make_match(built, players, other, num_games=games, opening_moves=0)
        points = [float(play(key, players.member(i), other.member(i)).points) for i, key in enumerate(keys)]
        writer.append(update, config.steps_at(update), {"evaluation_score": np.array(points)})
