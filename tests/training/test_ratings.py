"""Ratings against the closed form for two, the likelihood's equations, and Hunter's fixed point."""

import numpy as np
import pytest

from jaxrl.training.ratings import expected_points, fit_ratings


@pytest.mark.parametrize("wins, games", [(75, 100), (1, 100), (50, 100), (63.5, 64)])
@pytest.mark.parametrize("prior", [0.0, 1.0])
def test_of_two_players_it_is_the_logarithm_of_the_odds(wins, games, prior):
    found = fit_ratings([[0, games - wins], [wins, 0]], prior=prior)
    p, n = (wins + prior / 2) / (games + prior), games + prior
    np.testing.assert_allclose(found.elo, [0, 400 * np.log10(p / (1 - p))], atol=1e-6)
    # The delta method for a binomial share: d elo / dp = 400 / ln 10 / (p (1 - p)).
    np.testing.assert_allclose(found.error, [0, 400 / np.log(10) / np.sqrt(n * p * (1 - p))], atol=1e-6)


def test_who_won_all_is_finite_by_the_prior_alone():
    assert fit_ratings([[0, 0], [64, 0]]).elo[1] == pytest.approx(400 * np.log10(64.5 / 0.5))
    with pytest.raises(ValueError, match="won or lost all"):
        fit_ratings([[0, 0], [64, 0]], prior=0)


def hunter(points):
    """Hunter 2004, "MM algorithms for generalized Bradley-Terry models": another way to the same maximum."""
    games, strength = points + points.T, np.ones(len(points))
    for _ in range(20_000):
        strength = points.sum(1) / (games / (strength[:, None] + strength[None, :])).sum(1)
        strength /= strength[0]
    return 400 * np.log10(strength)


def test_many_players_against_another_algorithm():
    generator = np.random.default_rng(0)
    true = np.array([0.0, 300.0, 120.0, 700.0, 450.0])
    games = np.array([[0, 40, 40, 0, 0], [0, 0, 40, 40, 0], [0, 0, 0, 0, 40], [0, 0, 0, 0, 40], [0] * 5])
    points = np.zeros((5, 5))
    for i, j in zip(*np.nonzero(games), strict=True):
        points[i, j] = generator.binomial(games[i, j], expected_points(true[i], true[j]))
        points[j, i] = games[i, j] - points[i, j]
    found = fit_ratings(points, prior=0.0)
    np.testing.assert_allclose(found.elo, hunter(points), atol=1e-3)
    share = expected_points(found.elo[:, None], found.elo[None, :])
    np.testing.assert_allclose(((points + points.T) * share).sum(1), points.sum(1), atol=1e-6)
    assert (np.abs(found.elo - true) < 3 * found.error + 1e-9).all()
    moved = fit_ratings(points, anchor=3, prior=0.0)
    np.testing.assert_allclose(moved.elo, found.elo - found.elo[3], atol=1e-6)


def test_a_chain_of_lopsided_matches_converges():
    """The full Newton step overshoots here."""
    points = np.zeros((6, 6))
    for i in range(5):
        points[i + 1, i] = 1000.0
    np.testing.assert_allclose(np.diff(fit_ratings(points).elo), 400 * np.log10(1000.5 / 0.5), rtol=1e-6)


@pytest.mark.parametrize(
    "points, options, message",
    [
        (np.zeros((2, 3)), {}, r"points: got shape \(2, 3\)"),
        ([[1.0, 1.0], [1.0, 0.0]], {}, "0 on the diagonal"),
        (np.zeros((2, 2)), {}, "do not connect all players"),
        ([[0.0, 1.0], [1.0, 0.0]], {"anchor": 2}, "anchor: got 2"),
        ([[0.0, 1.0], [1.0, 0.0]], {"prior": -1.0}, "prior: got -1.0"),
    ],
)
def test_what_is_refused(points, options, message):
    with pytest.raises(ValueError, match=message):
        fit_ratings(points, **options)
