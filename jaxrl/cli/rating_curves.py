"""Pictures of ratings over training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from numpy.typing import NDArray

from jaxrl.runs.errors import written


class RatingCurve(NamedTuple):
    """The ratings of a run's snapshots over its training; M snapshots, S seeds.

    Attributes:
      env_steps: ``[M]``, environment steps per seed.
      elo: ``[S, M]``, the ratings.
      error: ``[S, M]``, their standard errors.
      anchors: the ratings ``[S]`` of players that don't learn, by name.
    """

    env_steps: NDArray[np.int64]
    elo: NDArray[np.float64]
    error: NDArray[np.float64]
    anchors: dict[str, NDArray[np.float64]]


def draw_ratings(curve: RatingCurve, title: str, path: Path) -> None:
    """Draws the mean over seeds as a line, each seed with its standard errors, and the anchors as horizontal lines."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    alone = len(curve.elo) == 1
    for seed, (elo, error) in enumerate(zip(curve.elo, curve.error, strict=True)):
        label = "one seed, ± standard error" if alone else "single seeds, ± standard error" if seed == 0 else None
        style: dict[str, Any] = {"color": "C0", "alpha": 1.0 if alone else 0.4, "linewidth": 1.8 if alone else 0.8}
        axes.errorbar(curve.env_steps, elo, error, capsize=2, marker="o", markersize=3, label=label, **style)
    if not alone:
        label = f"mean of {len(curve.elo)} seeds"
        axes.plot(curve.env_steps, curve.elo.mean(0), color="C0", linewidth=2.0, marker="o", markersize=5, label=label)
    for index, (name, ratings) in enumerate(curve.anchors.items()):
        axes.axhline(ratings.mean(), color=f"C{index + 1}", linestyle="--", linewidth=1.2, label=name)
    axes.set_xlabel("environment steps per seed")
    axes.set_ylabel("Elo, random = 0")
    axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title)
    # Below the axes, since the lines of the anchors span them.
    figure.legend(loc="outside lower center", ncols=2, edgecolor="none")
    try:
        with written(path, "choose another --out"):
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=150)
    finally:
        pyplot.close(figure)
