"""What is seen of a run while it trains: a live bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from jaxrl.runs.config import RunConfig
from jaxrl.runs.metrics import Floats, Summary

LINE_EVERY = 0.1
"""Of the run, between two plain lines."""

LINE_SECONDS = 30.0
"""Between two plain lines at most, where a tenth of the run takes longer."""


def human(number: float) -> str:
    """A count in three digits: 999, 1.23k, 45.6M."""
    for unit in ("", "k", "M", "G", "T"):
        if abs(number) < 999.5 or unit == "T":
            digits = 0 if not unit or abs(number) >= 99.95 else 1 if abs(number) >= 9.995 else 2
            return f"{number:.{digits}f}{unit}"
        number /= 1000
    raise AssertionError


def describe_returns(config: RunConfig, returns: Floats) -> str:
    """Mean and standard deviation over seeds of the last returns ``[S]``; of a sweep, which value leads, and its."""
    if np.isnan(returns).all():
        return "no episode ended yet"
    rows = returns.reshape(-1, config.seeds)
    known = ~np.isnan(rows)
    means = np.where(known.any(-1), np.nansum(rows, -1) / np.maximum(known.sum(-1), 1), -np.inf)
    best = int(np.argmax(means))
    seeds = rows[best][known[best]]
    spread = f" ± {seeds.std():.1f}" if config.seeds > 1 else ""
    leader = "" if config.sweep is None else f"best: {config.sweep.values[best]:g}, "
    return f"{leader}return {seeds.mean():.1f}{spread}"


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields["speed"])


class _Steps(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{human(task.completed)}/{human(task.total or 0)} steps in all")


class RunProgress:
    """Follows a run; a context manager. Steps are counted over all members."""

    def __init__(self, config: RunConfig, console: Console, num_updates: int, done: int) -> None:
        """``done`` of ``num_updates`` updates lie behind."""
        self.config, self.console = config, console
        self.num_updates, self.done = num_updates, done
        self.steps_per_update = config.num_envs * config.rollout_length * config.num_members
        self.returns = np.full(config.num_members, np.nan)
        self.speed = 0.0
        self._last_line = (done / num_updates, time.monotonic())
        self._seconds, self._trained = 0.0, 0
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                _Steps(),
                _Speed(),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[returns]}"),
                console=console,
                expand=True,
            )
            self._task = self._bar.add_task(
                "training",
                total=num_updates * self.steps_per_update,
                completed=done * self.steps_per_update,
                speed="",
                returns="",
            )

    def __enter__(self) -> RunProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, message: str) -> None:
        """Prints a line beside the bar."""
        self.console.print(message, soft_wrap=True, highlight=False)

    def update(self, updates: int, seconds: float, summary: Summary) -> None:
        """Shows a chunk: ``updates`` done in the whole run, ``seconds`` taken by this chunk."""
        self._seconds += seconds
        self._trained += updates - self.done
        self.done = updates
        latest = summary["episode_return"]
        self.returns = np.where(np.isnan(latest), self.returns, latest)
        self.speed = self._trained * self.steps_per_update / max(self._seconds, 1e-9)
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=updates * self.steps_per_update,
                speed=f"{human(self.speed)}/s",
                returns=describe_returns(self.config, self.returns),
            )
        else:
            self._line()

    def _line(self) -> None:
        fraction, now = self.done / self.num_updates, time.monotonic()
        if self.done < self.num_updates and (
            fraction - self._last_line[0] < LINE_EVERY and now - self._last_line[1] < LINE_SECONDS
        ):
            return
        self._last_line = (fraction, now)
        steps, total = self.done * self.steps_per_update, self.num_updates * self.steps_per_update
        left = (total - steps) / max(self.speed, 1e-9)
        self.say(
            f"{fraction:4.0%}  {human(steps)}/{human(total)} steps in all  {human(self.speed)}/s  {left:.0f} s left  "
            f"{describe_returns(self.config, self.returns)}"
        )
