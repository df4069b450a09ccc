"""metrics.csv: one row for each member and chunk, written between chunks and cut back when a run is resumed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrl.arguments import nearest
from jaxrl.runs.config import RunConfig

Floats = NDArray[np.float64]
Summary = dict[str, Floats]

_POSITION = ("update", "env_steps", "member", "seed")
_OF_EPISODES = ("episode_return", "episode_length")
_OF_ONE_UPDATE = ("worker", "seconds")
"""Of asynchronous runs: their means say nothing."""


def summarize(metrics: Mapping[str, NDArray[np.generic]]) -> Summary:
    """One number for each member from the metrics of a chunk.

    Args:
      metrics: ``[S, updates]`` each. ``episode_return`` and ``episode_length`` are means over the episodes that ended
        in an update, NaN where none did, and ``episodes`` is their count.

    Returns:
      ``[S]`` each: episodes are summed, what belongs to episodes is averaged over them (NaN where there was none),
      the rest is averaged over the updates.
    """
    episodes = np.asarray(metrics["episodes"], np.float64)
    count = episodes.sum(-1)
    summary = {"episodes": count}
    for name in _OF_EPISODES:
        total = np.where(episodes > 0, np.asarray(metrics[name], np.float64) * episodes, 0.0).sum(-1)
        summary[name] = np.divide(total, count, out=np.full_like(count, np.nan), where=count > 0)
    rest = {name: values for name, values in metrics.items() if name not in summary and name not in _OF_ONE_UPDATE}
    return {**summary, **{name: np.asarray(values, np.float64).mean(-1) for name, values in rest.items()}}


class MetricsWriter:
    """Appends rows to a metrics.csv.

    The columns: update and env_steps (of each seed) at the end of the chunk, member, seed, the swept hyper-parameter
    under its own name where there is one, then the metrics; a field is empty where there was nothing to average.
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path = path
        self.members = config.members()
        self.sweep = config.sweep
        self.steps_per_update = config.num_envs * config.rollout_length

    def append(self, update: int, summary: Summary) -> None:
        """Adds the rows of a chunk that ends with ``update``."""
        swept = [] if self.sweep is None else [self.sweep.name]
        is_new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow([*_POSITION, *swept, *summary])
            for member in self.members:
                value = [] if member.value is None else [f"{member.value:.9g}"]
                numbers = (float(values[member.number]) for values in summary.values())
                written = ["" if np.isnan(number) else f"{number:.7g}" for number in numbers]
                position = [update, update * self.steps_per_update, member.number, member.seed]
                writer.writerow([*position, *value, *written])

    def cut(self, update: int) -> None:
        """Drops the rows of updates after ``update``, and what a crash left of a last line."""
        if not self.path.exists():
            return
        with self.path.open(newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
        kept = [row for row in rows if len(row) == len(header) and int(row[0]) <= update]
        draft = self.path.with_suffix(".tmp")
        with draft.open("w", newline="") as file:
            csv.writer(file).writerows([header, *kept] if kept else [])
        draft.replace(self.path)
        if not kept:
            self.path.unlink()


class Curves(NamedTuple):
    """A metric of a whole run.

    Attributes:
      env_steps: ``[points]``.
      values: ``[S, points]``, NaN where a chunk had nothing to average.
    """

    env_steps: Floats
    values: Floats


def read_curves(path: Path, metric: str, num_members: int) -> Curves:
    """Reads one metric of all members.

    Raises:
      ValueError: there is no such file, or it has no such column, or no rows.
    """
    if not path.is_file() or not path.stat().st_size:
        state = "is empty" if path.is_file() else "does not exist"
        raise ValueError(f"{path} {state}: the run has not finished its first chunk of updates")
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        metrics = [name for name in columns if name not in _POSITION]
        if metric not in metrics:
            raise ValueError(f"{path}: no column '{metric}'{nearest(metric, metrics)} (columns: {', '.join(metrics)})")
        points = _points(reader, metric)
    whole = {step: row for step, row in points.items() if len(row) == num_members}
    if not whole:
        raise ValueError(f"{path} has no complete rows: the run has not finished its first chunk of updates")
    values = [[row[member] for member in range(num_members)] for row in whole.values()]
    return Curves(np.array(list(whole), np.float64), np.array(values, np.float64).T)


def _points(rows: Iterable[dict[str, str]], metric: str) -> dict[int, dict[int, float]]:
    """``{env_steps: {member: value}}``; a line that a crash cut short has None in its last fields and is left out."""
    points: dict[int, dict[int, float]] = {}
    for row in rows:
        if None not in row.values():
            value = float(row[metric]) if row[metric] else np.nan
            points.setdefault(int(row["env_steps"]), {})[int(row["member"])] = value
    return points
