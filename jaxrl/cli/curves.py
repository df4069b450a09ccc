"""Learning curves: the mean, the interquartile mean with its bootstrap interval, every seed faint behind them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from scipy import stats

from jaxrl.runs.folder import RunFolder
from jaxrl.runs.metrics import Floats, read_curves

RESAMPLES = 1000
CONFIDENCE = 0.95
FAINT = 32
"""Seeds that are drawn one by one, at most."""


class Curve(NamedTuple):
    """One curve of a figure.

    Attributes:
      label: for the legend.
      env_steps: ``[points]``.
      seeds: ``[seeds, points]``, without NaN.
    """

    label: str
    env_steps: Floats
    seeds: Floats


def carried_forward(values: Floats) -> Floats:
    """``[seeds, points]`` with each NaN replaced by the last number before it, where there is one.

    A chunk in which no episode of a seed ended says nothing new about it.
    """
    known = np.where(np.isnan(values), 0, np.arange(values.shape[1]))
    return np.take_along_axis(values, np.maximum.accumulate(known, axis=1), axis=1)


def interquartile_mean(seeds: Floats, axis: int = 0) -> Floats:
    """The mean of the middle half. Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice"."""
    return np.asarray(stats.trim_mean(seeds, 0.25, axis=axis))


def bootstrap_interval(seeds: Floats) -> tuple[Floats, Floats] | None:
    """Bounds ``[points]`` of the interquartile mean over resampled seeds; None for a single seed."""
    if seeds.shape[0] < 2:
        return None
    with warnings.catch_warnings():
        # Where all seeds agree there is nothing to resample, and the interval is that point.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        interval = stats.bootstrap(
            (seeds,),
            interquartile_mean,
            axis=0,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
    return interval.low, interval.high


def read_run(folder: RunFolder, metric: str, with_name: bool) -> list[Curve]:
    """The curves of a run: one, or one for each value of its sweep.

    Args:
      folder: the run.
      metric: a column of metrics.csv.
      with_name: put the run's name into the labels.

    Raises:
      ValueError: no such metric, or nothing to draw yet.
    """
    config = folder.read_config()
    read = read_curves(folder.metrics_file, metric, len(config.members()))
    sweep_names = [] if config.sweep is None else [f"{config.sweep.name}={value:g}" for value in config.sweep.values]
    curves = []
    for index, values in enumerate(read.values.reshape(max(1, len(sweep_names)), config.seeds, -1)):
        seeds = carried_forward(values)
        begun = ~np.isnan(seeds).any(axis=0)
        title = folder.path.resolve().name if with_name else f"{config.recipe} on {config.environment}"
        label = " ".join([title, *sweep_names[index : index + 1]])
        if begun.any():
            curves.append(Curve(label, read.env_steps[begun], seeds[:, begun]))
    if not curves:
        raise ValueError(f"{folder.metrics_file}: no number in column '{metric}' yet")
    return curves


def draw(folders: Sequence[RunFolder], path: Path, metric: str = "episode_return") -> None:
    """Draws the curves of one or many runs into a file.

    Raises:
      RunError, ConfigError: a folder that is no run.
      ValueError: a run with nothing to draw.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    curves = [curve for folder in folders for curve in read_run(folder, metric, with_name=len(folders) > 1)]
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for index, curve in enumerate(curves):
        _draw_curve(axes, curve, f"C{index % 10}", alone=len(curves) == 1)
    axes.set_xlabel("environment steps of each seed")
    axes.set_ylabel(metric.replace("_", " "))
    axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    if len(curves) == 1:
        axes.set_title(curves[0].label)
    else:
        axes.set_title("solid: mean, dashed: interquartile mean with its 95% interval", fontsize="medium")
    axes.legend(edgecolor="none", framealpha=0.7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _draw_curve(axes: Any, curve: Curve, color: str, alone: bool) -> None:
    """One curve; ``alone`` in its figure, it has its parts named in the legend."""
    num_seeds = len(curve.seeds)
    faint = f"single seeds ({num_seeds})" if num_seeds <= FAINT else f"{FAINT} of {num_seeds} seeds"
    for index, seed in enumerate(curve.seeds[:FAINT] if num_seeds > 1 else ()):
        label = faint if alone and index == 0 else None
        axes.plot(curve.env_steps, seed, color=color, alpha=0.4 if alone else 0.2, linewidth=0.8, label=label)
    axes.plot(curve.env_steps, curve.seeds.mean(0), color=color, linewidth=1.8, label="mean" if alone else curve.label)
    interval = bootstrap_interval(curve.seeds)
    if interval is not None:
        axes.plot(
            curve.env_steps,
            interquartile_mean(curve.seeds),
            color="black" if alone else color,
            linewidth=1.2,
            linestyle="--",
            label="interquartile mean" if alone else None,
        )
        label = f"its {CONFIDENCE:.0%} bootstrap interval" if alone else None
        axes.fill_between(curve.env_steps, *interval, color=color, alpha=0.2, linewidth=0, label=label)
