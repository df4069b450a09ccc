"""Learning curves: the interquartile mean with its bootstrap interval, the mean, single seeds, and evaluations.

The interval has the colour of its line. With fewer than four seeds the interquartile mean is the mean, and resampling
gives no more than the range of the seeds, so no interval is drawn.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from scipy import stats

from jaxrl.runs import learned_rewards
from jaxrl.runs.errors import written
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.fonts import families_for, plain, replace
from jaxrl.runs.kinds import CurveColumns, kind_of_run
from jaxrl.runs.labels import labels
from jaxrl.runs.metrics import Curves, Floats, read_curves

RESAMPLES = 1000
CONFIDENCE = 0.95
MIDDLE, INTERVAL = "interquartile mean", f"its {CONFIDENCE:.0%} bootstrap interval"
EVALUATION = "greedy evaluation"
FAINT = 32
"""The largest number of seeds that are drawn one by one."""

QUARTERS = 4
"""The number of seeds from which on the interquartile mean differs from the mean."""

MOST_POINTS = 500
"""The most points of a curve that are drawn: more than its pixels add nothing and would take minutes."""

FEW = 12
"""Curves of at most this many points have a marker at each."""

RETURN = "episode_return"
"""The column of metrics.csv that runs of every kind have."""


class Curve(NamedTuple):
    """One curve of a figure.

    Attributes:
      label: for the legend.
      env_steps: ``[points]``; no points before every seed has a number.
      seeds: ``[seeds, points]``, without NaN.
      evaluated_at: ``[evaluations]`` environment steps.
      evaluations: ``[seeds, evaluations]`` mean returns of greedy policies.
    """

    label: str
    env_steps: Floats
    seeds: Floats
    evaluated_at: Floats
    evaluations: Floats


def carried_forward(values: Floats) -> Floats:
    """Replaces each NaN in ``[seeds, points]`` by the last number before it, where there is one.

    If no episode of a seed ended in a chunk of updates, its last return still applies.
    """
    known = np.where(np.isnan(values), 0, np.arange(values.shape[1]))
    return np.take_along_axis(values, np.maximum.accumulate(known, axis=1), axis=1)


def interquartile_mean(seeds: Floats, axis: int = 0) -> Floats:
    """The mean of the middle half. Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice"."""
    return np.asarray(stats.trim_mean(seeds, 0.25, axis=axis))


def bootstrap_interval(seeds: Floats) -> tuple[Floats, Floats] | None:
    """The interval ``[points]`` of the interquartile mean over resampled seeds; None for a single seed."""
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
    """Reads the curves of a run: one, or one for each value of its sweep.

    Args:
      folder: the run.
      metric: a column of metrics.csv. Returns get the evaluations during training beside them, where there are any.
      name: the label of the run, before the value of its sweep.
      name_sweep: write a value as ``gamma=0.9``, not as ``0.9``.

    Raises:
      ValueError: no such metric, or nothing to draw yet.
    """
    config = folder.peek_config()
    columns = kind_of_run(folder).curve
    read = _read(folder, metric, config.num_members, columns)
    beside = columns.beside if metric == columns.metric else None
    evaluated = None if beside is None else _evaluations(folder, beside, config.num_members)
    labels = [name]
    if config.sweep is not None:
        called = config.sweep.label if name_sweep else config.sweep.short
        labels = [f"{name} {called(index)}".strip() for index in range(len(config.sweep.values))]
    curves = []
    for index, label in enumerate(labels):
        steps, seeds = thinned(*_common(read, index, config.seeds, carried_forward))
        none = (np.zeros(0), np.zeros((config.seeds, 0)))
        evaluations = none if evaluated is None else _common(evaluated, index, config.seeds)
        curves.append(Curve(label, steps, seeds, *evaluations))
    if not any(curve.env_steps.size for curve in curves):
        raise ValueError(f"{folder.metrics_file}: column '{metric}' does not have a number for every seed yet")
    return curves


def _read(folder: RunFolder, metric: str, num_members: int, columns: CurveColumns) -> Curves:
    """A column of metrics.csv, or of the other file that the run's kind has it in."""
    try:
        return read_curves(folder.metrics_file, metric, num_members)
    except ValueError as error:
        if metric != columns.metric or columns.file is None:
            raise
        file = columns.file(folder)
        if file.is_file():
            return read_curves(file, metric, num_members)
        raise ValueError(columns.missing.format(run=folder.path)) from error


def _common(
    read: Curves, value: int, num_seeds: int, fill: Callable[[Floats], Floats] = lambda values: values
) -> tuple[Floats, Floats]:
    """Steps ``[points]`` and numbers ``[seeds, points]`` of one value of a sweep, where all its seeds have one."""
    seeds = fill(read.values[value * num_seeds : (value + 1) * num_seeds])
    known = ~np.isnan(seeds).any(axis=0)
    return read.env_steps[known], seeds[:, known]


def thinned(steps: Floats, seeds: Floats) -> tuple[Floats, Floats]:
    """``[points]`` and ``[seeds, points]`` at ``MOST_POINTS`` of the points, the first and the last among them."""
    if steps.size <= MOST_POINTS:
        return steps, seeds
    kept = np.linspace(0, steps.size - 1, MOST_POINTS).round().astype(int)
    return steps[kept], seeds[:, kept]


def _evaluations(folder: RunFolder, column: str, num_members: int) -> Curves | None:
    """The evaluations during training, if the run has any."""
    try:
        return read_curves(folder.metrics_file, column, num_members)
    except ValueError:
        return None


def metric_of(folders: Sequence[RunFolder]) -> str:
    """The metric that shows how good some runs are: that of their kind, or the return where the kinds differ.

    In self-play, returns are the results of the last mover, which say nothing of strength; the score against a fixed
    opponent does.
    """
    metrics = {kind_of_run(folder).curve.metric for folder in folders}
    return metrics.pop() if len(metrics) == 1 else RETURN


def draw(folders: Sequence[RunFolder], path: Path, metric: str | None = None) -> dict[str, str]:
    """Draws the curves of one or several runs into a file.

    Args:
      folders: the runs.
      path: the picture.
      metric: a column of metrics.csv; None takes ``metric_of``.

    Returns:
      The labels with characters that no installed font has, and what is drawn in their place.

    Raises:
      RunError, ConfigError: a folder is not a run.
      ValueError: a run has nothing to draw.
    """
    matplotlib.use("Agg")

    learned = None
    if metric is None and len(folders) == 1:
        learned = learned_rewards.read(folders[0], folders[0].peek_config().num_members)
    metric = metric or metric_of(folders)
    names = labels(folders)
    swept = {config.sweep.title if config.sweep else None for config in (folder.peek_config() for folder in folders)}
    in_common = swept.pop() if len(swept) == 1 else None
    curves = [
        curve
        for folder, name in zip(folders, names, strict=True)
        for curve in read_run(folder, metric, name, name_sweep=in_common is None)
    ]
    families, missing = families_for([*(curve.label for curve in curves), _title(folders)])
    drawn = [replace(curve.label, missing, f"run {number}") for number, curve in enumerate(curves, 1)]
    replaced = {curve.label: label for curve, label in zip(curves, drawn, strict=True) if curve.label != label}
    curves = [curve._replace(label=plain(label)) for curve, label in zip(curves, drawn, strict=True)]
    title = plain(replace(_title(folders), missing, "?"))
    with matplotlib.rc_context({"font.family": families}):
        _draw(curves, path, title=title, metric=_name(metric, folders), in_common=in_common, learned=learned)
    return replaced


def _draw(
    curves: Sequence[Curve],
    path: Path,
    *,
    title: str,
    metric: str,
    in_common: str | None,
    learned: learned_rewards.LearnedReward | None,
) -> None:
    from matplotlib import pyplot

    longest = max(len(curve.label) for curve in curves)
    size = (8, 5) if len(curves) == 1 else (8.6 + 0.085 * max(longest, 24), 5)
    if learned is None:
        figure, axes = pyplot.subplots(figsize=size, layout="constrained")
    else:
        figure, (axes, below) = pyplot.subplots(
            2, figsize=(size[0], 1.5 * size[1]), height_ratios=(2, 1), sharex=True, layout="constrained"
        )
        learned_rewards.draw(below, learned)
    for index, curve in enumerate(curves):
        _draw_curve(axes, curve, _color(index, len(curves)), alone=len(curves) == 1)
    last = max(curve.env_steps[-1] for curve in curves if curve.env_steps.size)
    axes.set_xlim(0, 1.03 * last)
    axes.set_xlabel("environment steps per seed" if learned is None else "")
    axes.set_ylabel(metric)
    axes.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title)
    if len(curves) == 1:
        axes.legend(edgecolor="none", framealpha=0.7)
    else:
        handles = [*axes.get_legend_handles_labels()[0], *_key(curves)]
        figure.legend(handles=handles, title=in_common, alignment="left", loc="outside right upper", edgecolor="none")
    # Whole or not at all: the process of an interrupted run ends in the middle of a picture that takes too long.
    draft = path.with_name(f".{path.name}")
    try:
        with written(path, "jaxrl plot RUN --out FILE draws it elsewhere"):
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(draft, dpi=150, format=path.suffix[1:])
            draft.replace(path)
    finally:
        pyplot.close(figure)


def _name(metric: str, folders: Sequence[RunFolder]) -> str:
    kinds = [kind_of_run(folder) for folder in folders]
    names = {kind.curve.label for kind in kinds if kind.curve.metric == metric}
    if metric == RETURN and not names:
        names = {kind.label_of_return for kind in kinds}
    return names.pop() if len(names) == 1 else metric.replace("_", " ")


def _title(folders: Sequence[RunFolder]) -> str:
    """The title: the recipe and the environment, if all runs have the same, or one of them."""
    configs = [folder.peek_config() for folder in folders]
    recipes, environments = ({getattr(config, name) for config in configs} for name in ("recipe", "environment"))
    return " on ".join(names.pop() for names in (recipes, environments) if len(names) == 1)


def _color(index: int, count: int) -> Any:
    return f"C{index}" if count <= 10 else matplotlib.colormaps["turbo"](index / (count - 1))


def _draw_curve(axes: Any, curve: Curve, color: Any, alone: bool) -> None:
    """Draws one curve. Alone in its figure it has its parts in the legend, otherwise its label."""
    steps, num_seeds = curve.env_steps, len(curve.seeds)
    if not steps.size:
        axes.plot([], [], color=color, label=f"{curve.label} (nothing to show yet)")
        return
    marker = "o" if steps.size <= FEW else None
    for index, seed in enumerate(curve.seeds[:FAINT] if num_seeds > 1 else ()):
        label = _seeds_label([curve]) if alone and index == 0 else None
        faint = {"alpha": 0.4 if alone else 0.2, "linewidth": 0.8, "marker": marker, "markersize": 3}
        axes.plot(steps, seed, color=color, label=label, **faint)
    main = {"color": color, "linewidth": 1.8, "marker": marker, "markersize": 5}
    mean = curve.seeds.mean(0)
    if num_seeds >= QUARTERS:
        label = f"mean of {num_seeds} seeds" if alone else None
        axes.plot(steps, mean, "--", color=color, linewidth=1.2, marker=marker, markersize=3, label=label)
        axes.plot(steps, interquartile_mean(curve.seeds), label=MIDDLE if alone else curve.label, **main)
        _draw_interval(axes, curve, color, INTERVAL if alone else None)
    else:
        label = f"mean of {num_seeds} seeds" if num_seeds > 1 else "one seed"
        axes.plot(steps, mean, label=label if alone else curve.label, **main)
    if curve.evaluated_at.size:
        color = "C1" if alone else color
        label = f"{EVALUATION}, mean" if alone and num_seeds > 1 else EVALUATION if alone else None
        points: dict[str, Any] = {"marker": "D", "markersize": 5, "linewidth": 1.0, "markeredgecolor": "white"}
        axes.plot(curve.evaluated_at, curve.evaluations.mean(0), ":", color=color, label=label, **points)


def _draw_interval(axes: Any, curve: Curve, color: Any, label: str | None) -> None:
    interval, middle = bootstrap_interval(curve.seeds), interquartile_mean(curve.seeds)
    assert interval is not None
    if curve.env_steps.size > 1:
        axes.fill_between(curve.env_steps, *interval, color=color, alpha=0.25, linewidth=0, label=label)
    else:  # a band at a single point has no width
        low, high = interval
        axes.errorbar(curve.env_steps, middle, [middle - low, high - middle], color=color, capsize=6, label=label)


def _seeds_label(curves: Sequence[Curve]) -> str:
    most = max(len(curve.seeds) for curve in curves)
    return "single seeds" if most <= FAINT else f"single seeds ({FAINT} of {most})"


def _key(curves: Sequence[Curve]) -> list[Any]:
    """Entries of the legend that explain the lines, for a figure whose colours tell the runs apart."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    most = max(len(curve.seeds) for curve in curves)
    key: list[Any] = []
    if most >= QUARTERS:
        key.append(Line2D([], [], color="grey", linewidth=1.8, label=MIDDLE))
        key.append(Patch(color="grey", alpha=0.25, linewidth=0, label=INTERVAL))
        key.append(Line2D([], [], color="grey", linewidth=1.2, linestyle="--", label="mean"))
    elif most > 1:
        key.append(Line2D([], [], color="grey", linewidth=1.8, label="mean"))
    if most > 1:
        key.append(Line2D([], [], color="grey", alpha=0.4, linewidth=0.8, label=_seeds_label(curves)))
    if any(curve.evaluated_at.size for curve in curves):
        key.append(Line2D([], [], color="grey", linewidth=1.0, linestyle=":", marker="D", label=EVALUATION))
    return [Line2D([], [], linestyle="", label=" "), *key] if key else []
