"""metrics.csv: one row per member and chunk of updates, truncated when a run is resumed from an earlier update."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jaxrl.arguments import nearest
from jaxrl.runs.config import RunConfig
from jaxrl.runs.errors import RunError

Floats = NDArray[np.float64]
Summary = dict[str, Floats]

_POSITION = ("update", "env_steps", "member", "seed")
_OF_EPISODES = ("episode_return", "episode_length", "episode_success")
_OF_ONE_UPDATE = ("worker", "seconds")
"""Columns of asynchronous runs that are left out because their means have no meaning."""

_LATEST = ("gradient_steps", "learning_rate", "epsilon")
"""Metrics whose last value in a chunk is kept instead of the mean."""


def summarize(metrics: Mapping[str, NDArray[np.generic]]) -> Summary:
    """Reduces the metrics of a chunk of updates to one number per member.

    Args:
      metrics: ``[S, updates]`` each. ``episode_return`` and the like are means over the episodes that ended
        in an update (NaN if none did), and ``episodes`` is their number.

    Returns:
      ``[S]`` each. Episode counts are summed, episode metrics are averaged over episodes (NaN if there were none),
      rates and counters are taken from the last update, and everything else is averaged over the updates in which it
      is not NaN.
    """
    episodes = np.asarray(metrics["episodes"], np.float64)
    summary = {"episodes": episodes.sum(-1)}
    for name in filter(metrics.__contains__, _OF_EPISODES):
        summary[name] = _mean(np.asarray(metrics[name], np.float64), episodes)
    rest = {name: values for name, values in metrics.items() if name not in summary and name not in _OF_ONE_UPDATE}
    floats = {name: np.asarray(values, np.float64) for name, values in rest.items()}
    return summary | {
        name: values[:, -1] if name in _LATEST else _mean(values, ~np.isnan(values)) for name, values in floats.items()
    }


def _mean(values: Floats, weight: NDArray[Any]) -> Floats:
    """``[S]``, the weighted mean of ``[S, updates]``; NaN where all weights are 0."""
    count = np.asarray(weight.sum(-1), np.float64)
    total = np.where(weight > 0, values * weight, 0.0).sum(-1)
    return np.divide(total, count, out=np.full_like(count, np.nan), where=count > 0)


class MetricsWriter:
    """Appends rows to a metrics.csv.

    The columns are update and env_steps (per seed) at the end of the chunk, member, seed, the swept hyper-parameters by
    name, then the metrics. A field is empty if there was nothing to average. Columns that a later stage adds are empty
    in earlier rows.
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        self.path = path
        self.members = config.members()
        self.sweep = config.sweep
        self._columns: list[str] | None = None

    def append(self, update: int, env_steps: int, summary: Summary) -> None:
        """Adds the rows of a chunk that ends with ``update``."""
        swept = () if self.sweep is None else self.sweep.names
        columns = self._with(name for name in summary if name not in swept)
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            for member in self.members:
                values = () if self.sweep is None or member.setting is None else self.sweep.values[member.setting]
                numbers = {name: float(summary[name][member.number]) for name in summary if name not in swept}
                written = {name: "" if np.isnan(number) else f"{number:.7g}" for name, number in numbers.items()}
                position = dict(zip(_POSITION, (update, env_steps, member.number, member.seed), strict=True))
                writer.writerow(
                    position | dict(zip(swept, (f"{value:.9g}" for value in values), strict=True)) | written
                )

    def _with(self, metrics: Iterable[str]) -> list[str]:
        """The columns of the file after these metrics are added."""
        rows: list[dict[str, str]] = []
        if self._columns is None:
            self._columns, rows = self._read()
        missing = [name for name in metrics if name not in self._columns]
        if missing:
            if self._columns and not rows:
                rows = self._read()[1]
            swept = () if self.sweep is None else self.sweep.names
            self._columns = [*(self._columns or (*_POSITION, *swept)), *missing]
            self._write(rows)
        return self._columns

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        """The columns and the complete rows; a last line that a crash truncated is dropped."""
        if not self.path.exists():
            return [], []
        with _readable(self.path), self.path.open(newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
        return header, [dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)]

    def _write(self, rows: Iterable[dict[str, str]]) -> None:
        """Rewrites the file completely, or leaves the old one."""
        draft = self.path.with_suffix(".tmp")
        with draft.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns or (), restval="")
            writer.writeheader()
            writer.writerows(rows)
        draft.replace(self.path)

    def cut(self, update: int) -> None:
        """Drops the rows after ``update``, and a last line that a crash truncated."""
        if not self.path.exists():
            return
        self._columns, rows = self._read()
        with _readable(self.path):
            kept = [row for row in rows if int(row["update"]) <= update]
        if kept:
            self._write(kept)
        else:
            self.path.unlink()
            self._columns = None

    def lacks(self, update: int, columns: Iterable[str]) -> bool:
        """Whether the file has rows of an update in which these columns are empty."""
        rows = [row for row in self._read()[1] if row["update"] == str(update)]
        return any(not row.get(name, "x") for row in rows for name in columns)

    def fill(self, update: int, summary: Summary) -> None:
        """Writes columns into the rows of an update, which have them already."""
        self._columns, rows = self._read()
        for row in rows:
            if row["update"] == str(update):
                numbers = {name: float(values[int(row["member"])]) for name, values in summary.items()}
                row.update({name: f"{number:.7g}" for name, number in numbers.items() if not np.isnan(number)})
        self._write(rows)

    def last_wall_time(self) -> float:
        """Seconds of training up to the last row; 0 if there is none."""
        rows = self._read()[1]
        with _readable(self.path):
            return float(rows[-1].get("wall_time") or 0.0) if rows else 0.0

    def last_update(self) -> int:
        """The update of the last row; 0 if there is none."""
        rows = self._read()[1]
        with _readable(self.path):
            return int(rows[-1]["update"]) if rows else 0


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Names the file in errors of reading it.

    Raises:
      RunError: it is not a table of numbers.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, csv.Error) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{path} can't be read ({reason}); repair it, or move it away to go on without it") from error


class Curves(NamedTuple):
    """A metric of a whole run.

    Attributes:
      env_steps: ``[points]``, environment steps per seed.
      values: ``[S, points]``, NaN if a chunk had nothing to average.
    """

    env_steps: Floats
    values: Floats


def read_curves(path: Path, metric: str, num_members: int) -> Curves:
    """Reads one metric of all members.

    Raises:
      ValueError: the file, the column or its rows do not exist.
      RunError: the file can't be read.
    """
    if not path.is_file() or not path.stat().st_size:
        state = "is empty" if path.is_file() else "does not exist"
        raise ValueError(f"{path} {state}: the run has not finished its first chunk of updates")
    with _readable(path), path.open(newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        rows = list(reader)
    metrics = [name for name in columns if name not in _POSITION]
    if metric not in metrics:
        raise ValueError(f"{path}: no column '{metric}'{nearest(metric, metrics)} (columns: {', '.join(metrics)})")
    with _readable(path):
        points = _points(rows, metric)
    whole = {step: row for step, row in points.items() if len(row) == num_members}
    if not whole:
        raise ValueError(f"{path} has no complete rows: the run has not finished its first chunk of updates")
    values = [[row[member] for member in range(num_members)] for row in whole.values()]
    return Curves(np.array(list(whole), np.float64), np.array(values, np.float64).T)


def _points(rows: Iterable[dict[str, str]], metric: str) -> dict[int, dict[int, float]]:
    """``{env_steps: {member: value}}``; a line that a crash truncated has None in its last fields and is left out."""
    points: dict[int, dict[int, float]] = {}
    for row in rows:
        if None not in row.values():
            value = float(row[metric]) if row[metric] else np.nan
            points.setdefault(int(row["env_steps"]), {})[int(row["member"])] = value
    return points
