"""Elo ratings of players from their games, by maximum likelihood.

Legend of shapes: P players.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SCALE = 400.0 / np.log(10.0)
"""Elo points per unit of the logistic scale: 400 points are odds of ten to one."""


class Ratings(NamedTuple):
    """Ratings of players relative to the anchor.

    Attributes:
      elo: ``[P]``, 0 for the anchor.
      error: ``[P]`` standard errors relative to the anchor, from the randomness of the games only.
    """

    elo: NDArray[np.float64]
    error: NDArray[np.float64]


def expected_points(elo: Any, other: Any) -> Any:
    """The expected score of a player: ``1 / (1 + 10^((other - elo) / 400))``."""
    return 1.0 / (1.0 + 10.0 ** ((np.asarray(other, float) - np.asarray(elo, float)) / 400.0))


def fit_ratings(points: Any, *, anchor: int = 0, prior: float = 1.0) -> Ratings:
    """Maximum-likelihood ratings (Bradley and Terry 1952), where a draw is half a win.

    ``max_r sum_ij points_ij log p_ij``, ``p_ij = 1 / (1 + 10^((r_j - r_i) / 400))``. At the maximum every player's
    expected points equal its points.

    Args:
      points: ``[P, P]``, the points of i against j; ``points[i, j] + points[j, i]`` games were played.
      anchor: index of the player with rating 0.
      prior: number of drawn games added to every pair that met, so that ratings of players who won all games are
        finite.

    Raises:
      ValueError: ``points`` is no such matrix, the games do not connect all players, or without a prior a player won or
        lost all games.
    """
    points = np.array(points, float)
    size = len(points)
    if points.ndim != 2 or points.shape != (size, size) or (points < 0).any() or np.diagonal(points).any():
        raise ValueError(f"points: got shape {points.shape}, must be [P, P], at least 0 and 0 on the diagonal")
    if not 0 <= anchor < size:
        raise ValueError(f"anchor: got {anchor}, must be one of the {size} players")
    if prior < 0:
        raise ValueError(f"prior: got {prior}, must be at least 0")
    met = points + points.T > 0
    points = points + 0.5 * prior * met
    if not _reaches_all(points > 0) or not _reaches_all(points.T > 0):
        raise ValueError(
            "points: the games do not connect all players, or a player won or lost all; add games or set prior above 0"
        )
    free = np.arange(size) != anchor
    games, strength = points + points.T, np.zeros(size)
    # Newton's method, since the likelihood is concave; steps are halved while it would decrease.
    for _ in range(200):
        share = expected_points(SCALE * strength[:, None], SCALE * strength[None, :])
        gradient = (points - games * share).sum(1)[free]
        information = _information(games, share)[np.ix_(free, free)]
        step = np.zeros(size)
        step[free] = np.linalg.solve(information, gradient)
        rate, before = 1.0, _likelihood(points, strength)
        while _likelihood(points, strength + rate * step) < before - 1e-9 and rate > 1e-6:
            rate /= 2.0
        strength = strength + rate * step
        if np.abs(rate * step).max() < 1e-10:
            break
    error = np.zeros(size)
    error[free] = SCALE * np.sqrt(np.diagonal(np.linalg.inv(information)))
    return Ratings(SCALE * strength, error)


def _likelihood(points: NDArray[np.float64], strength: NDArray[np.float64]) -> float:
    return float((points * -np.logaddexp(0.0, strength[None, :] - strength[:, None])).sum())


def _information(games: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """The negative Hessian of the log-likelihood, ``[P, P]``."""
    weight = games * share * (1.0 - share)
    return np.diag(weight.sum(1)) - weight


def _reaches_all(beats: NDArray[np.bool_]) -> bool:
    """Whether all players can be reached from the first along ``[P, P]``."""
    reached = np.zeros(len(beats), bool)
    reached[0] = True
    for _ in range(len(beats)):
        reached |= beats[reached].any(0)
    return bool(reached.all())
