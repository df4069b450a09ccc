"""A tournament between the snapshots of a run and players that don't learn, for ratings.

Legend of shapes: P players, first the anchors, then the snapshots in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from jaxrl.runs.building import Built
from jaxrl.runs.matches import Side, make_match
from jaxrl.training.match import Score

ELO = 0xE10
"""Folded into the key of a seed for its tournament."""


def pairings(num_anchors: int, num_snapshots: int, predecessors: int) -> list[tuple[int, int]]:
    """The pairs of players: anchors meet everybody, a snapshot meets ``predecessors`` earlier ones."""
    size = num_anchors + num_snapshots
    return [
        (player, other)
        for player in range(size)
        for other in range(player)
        if other < num_anchors or player - other <= predecessors
    ]


class Tournament:
    """The matches of a tournament, compiled once for all pairs and seeds, which differ in their states only."""

    def __init__(
        self,
        built: Built,
        anchors: Sequence[Side],
        snapshots: Sequence[Side],
        *,
        predecessors: int,
        num_games: int,
        opening_moves: int,
    ) -> None:
        """Sets up the players.

        Args:
          built: the built run.
          anchors: players that don't learn.
          snapshots: the snapshots of the run, which share one maker.
          predecessors: see ``pairings``.
          num_games: the number of games per pair.
          opening_moves: the number of random moves at the start of each game.
        """
        self._sides = [*anchors, *snapshots]
        self._pairs = pairings(len(anchors), len(snapshots), predecessors)
        self._keys = built.keys
        self._num_games = num_games
        # All snapshots are one kind of player.
        self._kinds = [min(number, len(anchors)) for number in range(len(self._sides))]
        self._programs: dict[tuple[int, int], Callable[..., Score]] = {
            (self._kinds[one], self._kinds[other]): make_match(
                built, self._sides[one], self._sides[other], num_games=num_games, opening_moves=opening_moves
            )
            for one, other in self._pairs
        }

    def play(self, member: int, on_match: Callable[[], Any] = lambda: None) -> NDArray[np.float64]:
        """The points ``[P, P]`` in the tournament of one seed: row i has the points of player i against each other."""
        points = np.zeros((len(self._sides), len(self._sides)))
        key = jax.random.fold_in(self._keys[member], ELO)
        for number, (one, other) in enumerate(self._pairs):
            program = self._programs[self._kinds[one], self._kinds[other]]
            players = [self._sides[side].member(member) for side in (one, other)]
            share = float(program(jax.random.fold_in(key, number), *players).points)
            points[one, other], points[other, one] = self._num_games * share, self._num_games * (1.0 - share)
            on_match()
        return points
