"""Learning curves: the mean, the interquartile mean with its bootstrap interval, every seed faint behind them.

With fewer than four seeds the interquartile mean is the mean, and an interval by resampling is no more than their
range; so there the seeds stand for themselves.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from scipy import stats

from jaxrl.runs.folder import RunFolder
from jaxrl.runs.kinds import KINDS
from jaxrl.runs.labels import labels
from jaxrl.runs.metrics import Floats, read_curves

RESAMPLES = 1000
CONFIDENCE = 0.95
INTERVAL = f"its {CONFIDENCE:.0%} bootstrap interval"
FAINT = 32
"""Seeds that are drawn one by one, at most."""

QUARTERS = 4
"""Seeds from which on there is a middle half to speak of."""

FEW = 12
"""Points up to which each is marked."""


class Curve(NamedTuple):
    """One curve of a figure.

    Attributes:
      label: for the legend.
      env_steps: ``[points]``, none where not every seed has a number yet.
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


def read_run(folder: RunFolder, metric: str, name: str = "", *, name_sweep: bool = True) -> list[Curve]:
    """The curves of a run: one, or one for each value of its sweep.

    Args:
      folder: the run.
      metric: a column of metrics.csv.
      name: what to call the run, before the value of its sweep.
      name_sweep: call a value ``gamma=0.9``; else ``0.9``, where its name stands elsewhere.

    Raises:
      ValueError: no such metric, or nothing to draw yet.
    """
    config = folder.read_config()
    read = read_curves(folder.metrics_file, metric, config.num_members)
    labels = [name]
    if config.sweep is not None:
        before = f"{config.sweep.name}=" if name_sweep else ""
        labels = [f"{name} {before}{value:g}".strip() for value in config.sweep.values]
    curves = []
    for label, values in zip(labels, read.values.reshape(len(labels), config.seeds, -1), strict=True):
        seeds = carried_forward(values)
        begun = ~np.isnan(seeds).any(axis=0)
        curves.append(Curve(label, read.env_steps[begun], seeds[:, begun]))
    if not any(curve.env_steps.size for curve in curves):
        raise ValueError(f"{folder.metrics_file}: column '{metric}' has no number of every seed yet")
    return curves


def draw(folders: Sequence[RunFolder], path: Path, metric: str = "episode_return") -> None:
    """Draws the curves of one or many runs into a file.

    Raises:
      RunError, ConfigError: a folder that is no run.
      ValueError: a run with nothing to draw.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = labels(folders)
    swept = {config.sweep.name if config.sweep else None for config in (folder.read_config() for folder in folders)}
    in_common = swept.pop() if len(swept) == 1 else None
    curves = [
        curve
        for folder, name in zip(folders, names, strict=True)
        for curve in read_run(folder, metric, name, name_sweep=in_common is None)
    ]
    longest = max(len(curve.label) for curve in curves)
    size = (8, 5) if len(curves) == 1 else (8.6 + 0.085 * max(longest, 24), 5)
    figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    for index, curve in enumerate(curves):
        _draw_curve(axes, curve, _color(index, len(curves)), alone=len(curves) == 1)
    last = max(curve.env_steps[-1] for curve in curves if curve.env_steps.size)
    axes.set_xlim(0, 1.03 * last)
    axes.set_xlabel("environment steps of each seed")
    axes.set_ylabel(_name(metric, folders))
    axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(_title(folders))
    if len(curves) == 1:
        axes.legend(edgecolor="none", framealpha=0.7)
    else:
        handles = [*axes.get_legend_handles_labels()[0], *_key(curves)]
        figure.legend(handles=handles, title=in_common, alignment="left", loc="outside right upper", edgecolor="none")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _name(metric: str, folders: Sequence[RunFolder]) -> str:
    if metric == "episode_return" and all(folder.is_self_play for folder in folders):
        return KINDS["game"].label_of_return
    return metric.replace("_", " ")


def _title(folders: Sequence[RunFolder]) -> str:
    """What all runs have in common: the recipe and the environment, or one of them."""
    configs = [folder.read_config() for folder in folders]
    recipes, environments = ({getattr(config, name) for config in configs} for name in ("recipe", "environment"))
    return " on ".join(names.pop() for names in (recipes, environments) if len(names) == 1)


def _color(index: int, count: int) -> Any:
    return f"C{index}" if count <= 10 else matplotlib.colormaps["turbo"](index / (count - 1))


def _draw_curve(axes: Any, curve: Curve, color: Any, alone: bool) -> None:
    """One curve; ``alone`` in its figure, it has its parts named in the legend, and else its label."""
    steps, num_seeds = curve.env_steps, len(curve.seeds)
    if not steps.size:
        axes.plot([], [], color=color, label=f"{curve.label} (nothing to show yet)")
        return
    marker = "o" if steps.size <= FEW else None
    for index, seed in enumerate(curve.seeds[:FAINT] if num_seeds > 1 else ()):
        label = _seeds_label([curve]) if alone and index == 0 else None
        faint = {"alpha": 0.45 if alone else 0.25, "linewidth": 0.8, "marker": marker, "markersize": 3}
        axes.plot(steps, seed, color=color, label=label, **faint)
    label = curve.label
    if alone:
        label = f"mean of {num_seeds} seeds" if num_seeds > 1 else "one seed"
    axes.plot(steps, curve.seeds.mean(0), color=color, linewidth=1.8, marker=marker, markersize=5, label=label)
    if num_seeds >= QUARTERS:
        _draw_interval(axes, curve, color, marker, alone)


def _draw_interval(axes: Any, curve: Curve, color: Any, marker: str | None, alone: bool) -> None:
    interval, middle = bootstrap_interval(curve.seeds), interquartile_mean(curve.seeds)
    assert interval is not None
    own = "black" if alone else color
    label = "interquartile mean" if alone else None
    axes.plot(curve.env_steps, middle, "--", color=own, linewidth=1.2, marker=marker, markersize=3, label=label)
    label = INTERVAL if alone else None
    if curve.env_steps.size > 1:
        axes.fill_between(curve.env_steps, *interval, color=color, alpha=0.2, linewidth=0, label=label)
    else:  # a band of no width is not seen
        low, high = interval
        axes.errorbar(curve.env_steps, middle, [middle - low, high - middle], color=own, capsize=6, label=label)


def _seeds_label(curves: Sequence[Curve]) -> str:
    most = max(len(curve.seeds) for curve in curves)
    return "single seeds" if most <= FAINT else f"single seeds ({FAINT} of {most})"


def _key(curves: Sequence[Curve]) -> list[Any]:
    """What the lines mean, for a figure where their colours mean something else."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    most = max(len(curve.seeds) for curve in curves)
    if most == 1:
        return []
    key: list[Any] = [Line2D([], [], linestyle="", label=" "), Line2D([], [], color="grey", label="mean")]
    if most >= QUARTERS:
        key.append(Line2D([], [], color="grey", linewidth=1.2, linestyle="--", label="interquartile mean"))
        key.append(Patch(color="grey", alpha=0.2, linewidth=0, label=INTERVAL))
    key.append(Line2D([], [], color="grey", alpha=0.4, linewidth=0.8, label=_seeds_label(curves)))
    return key
