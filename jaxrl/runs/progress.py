"""Progress of a run: a live bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from jaxrl.runs.config import RunConfig
from jaxrl.runs.metrics import Floats, Summary

LINE_EVERY = 0.1
"""The fraction of the run between two plain lines."""

LINE_SECONDS = 30.0
"""The most seconds between two plain lines, if a tenth of the run takes longer."""


def human(number: float) -> str:
    """A count with three digits: 999, 1.23k, 45.6M."""
    for unit in ("", "k", "M", "G", "T"):
        if abs(number) < 999.5 or unit == "T":
            digits = 0 if not unit or abs(number) >= 99.95 else 1 if abs(number) >= 9.995 else 2
            return f"{number:.{digits}f}{unit}"
        number /= 1000
    raise AssertionError


def describe_returns(config: RunConfig, returns: Floats, name: str = "return") -> str:
    """Mean and standard deviation over seeds of the last returns ``[S]``; for a sweep, those of the best value."""
    if np.isnan(returns).all():
        return "no episode ended yet"
    rows = returns.reshape(-1, config.seeds)
    known = ~np.isnan(rows)
    means = np.where(known.any(-1), np.nansum(rows, -1) / np.maximum(known.sum(-1), 1), -np.inf)
    best = int(np.argmax(means))
    seeds = rows[best][known[best]]
    spread = f" ± {seeds.std():.1f}" if config.seeds > 1 else ""
    leader = "" if config.sweep is None else f"best: {config.sweep.short(best)}, "
    return f"{leader}{name} {seeds.mean():.1f}{spread}"


class Pace:
    """Decides when to print a plain line: after a tenth of the run or half a minute, and at the end."""

    def __init__(self, fraction: float = 0.0) -> None:
        """Starts at ``fraction`` of the run."""
        self._last = (fraction, time.monotonic())

    def is_due(self, fraction: float) -> bool:
        """Whether to print a line now; True counts as printed."""
        now = time.monotonic()
        if fraction < 1.0 and fraction - self._last[0] < LINE_EVERY and now - self._last[1] < LINE_SECONDS:
            return False
        self._last = (fraction, now)
        return True


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields["speed"])


class _Steps(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{human(task.completed)}/{human(task.total or 0)} steps in all")


class _Bar:
    """A context manager that shows its bar in a terminal and nothing elsewhere."""

    _bar: Progress | None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()


class RunProgress(_Bar):
    """A context manager that follows a run. Steps are counted over all members."""

    def __init__(
        self, config: RunConfig, console: Console, num_steps: int, done: int, name_of_return: str = "return"
    ) -> None:
        """Starts after ``done`` of ``num_steps`` environment steps per seed."""
        self.config, self.console, self.name_of_return = config, console, name_of_return
        self.num_steps, self.done = max(1, num_steps), done
        self.returns = np.full(config.num_members, np.nan)
        self.speed = 0.0
        self._pace = Pace(done / self.num_steps)
        self._seconds, self._trained = 0.0, 0
        self._bar = None
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
                total=self.num_steps * config.num_members,
                completed=done * config.num_members,
                speed="",
                returns="",
            )

    def say(self, message: str) -> None:
        """Prints a line beside the bar."""
        self.console.print(message, soft_wrap=True, highlight=False)

    def update(self, env_steps: int, seconds: float, summary: Summary) -> None:
        """Shows a chunk: ``env_steps`` per seed so far in the whole run, ``seconds`` for this chunk."""
        self._seconds += seconds
        self._trained += env_steps - self.done
        self.done = env_steps
        latest = summary["episode_return"]
        self.returns = np.where(np.isnan(latest), self.returns, latest)
        self.speed = self._trained * self.config.num_members / max(self._seconds, 1e-9)
        if self._bar is not None:
            self._bar.update(
                self._task,
                completed=env_steps * self.config.num_members,
                speed=f"{human(self.speed)}/s",
                returns=describe_returns(self.config, self.returns, self.name_of_return),
            )
        else:
            self._line()

    def _line(self) -> None:
        fraction = self.done / self.num_steps
        if not self._pace.is_due(fraction):
            return
        steps, total = self.done * self.config.num_members, self.num_steps * self.config.num_members
        left = (total - steps) / max(self.speed, 1e-9)
        self.say(
            f"{fraction:4.0%}  {human(steps)}/{human(total)} steps in all  {human(self.speed)}/s  {left:.0f} s left  "
            f"{describe_returns(self.config, self.returns, self.name_of_return)}"
        )


class MatchProgress(_Bar):
    """A context manager that follows the matches of a tournament."""

    def __init__(self, console: Console, total: int) -> None:
        self.console, self.done, self.total = console, 0, total
        self._pace, self._began = Pace(), time.monotonic()
        self._bar = None
        if console.is_terminal:
            self._bar = Progress(console=console, transient=True)
            self._task = self._bar.add_task("matches", total=total)

    def advance(self) -> None:
        """Shows that one more match is over."""
        self.done += 1
        if self._bar is not None:
            self._bar.advance(self._task)
        elif self._pace.is_due(self.done / self.total):
            left = (time.monotonic() - self._began) / self.done * (self.total - self.done)
            line = f"{self.done / self.total:4.0%}  {self.done}/{self.total} matches  {left:.0f} s left"
            self.console.print(line, highlight=False)
