"""Clips: the segments of a question as animated pictures, as plots, or as text."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import matplotlib
import numpy as np

from jaxrl import types
from jaxrl.feedback.segments import example
from jaxrl.runs.errors import ConfigError
from jaxrl.runs.outside_answers import Pair, like
from jaxrl.runs.pictures import DPI, draw_states
from jaxrl.runs.questions import Question

if TYPE_CHECKING:
    from jaxrl.runs.building import Built

SIDES = ("left", "right")
"""The names of the first and the second segment."""

FRAMES_PER_SECOND = 15
"""The most; a segment of 25 steps at 50 is over in half a second."""

LINES = 8
"""The most features of an observation that are plotted."""

FRAMES = 6
"""The number of states of a segment that are shown as text."""

BARS = "▁▂▃▄▅▆▇█"


class Clip(NamedTuple):
    """A picture of a segment: its media type, and the bytes of the file."""

    media: str
    data: bytes


class Clips:
    """Draws the segments of a run's questions by what ``jaxrl evaluate --gif`` draws with.

    Attributes:
      without: the reason why there are plots in place of pictures; None where there are pictures. Known after the
        first clip.
    """

    def __init__(self, built: Built) -> None:
        env = built.env
        while hasattr(env, "inner_state"):
            env = env.env
        self._env, self._params = env, built.params
        seen = example(built.spec, states=True)
        self._like = Pair(seen.observation, seen.action, ())
        self.without: str | None = None
        if getattr(seen.observation, "env_state", None) is None:
            self.without = f"the states of {getattr(env, 'name', type(env).__name__)} can't be stored"

    @property
    def has_text(self) -> bool:
        """Whether the environment draws its states as text."""
        return self.without is None and hasattr(self._env, "text")

    def draw(self, question: Question, side: int) -> Clip:
        """A segment as a GIF, or as a plot where the environment has no picture."""
        pair, length = self._segment(question, side)
        if self.without is None:
            states = _states(pair, length)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "clip.gif"
                try:
                    titles = [f"step {i + 1}" for i in range(length)]
                    draw_states(path, self._env, self._params, states, titles, FRAMES_PER_SECOND)
                    return Clip("image/gif", path.read_bytes())
                except ConfigError as error:
                    self.without = str(error).removeprefix("--gif: ")
        return Clip("image/png", _plot(_features(pair, length), pair.action[:length]))

    def text(self, question: Question) -> str:
        """Both segments as text: some of their states side by side, or a line for each feature."""
        parts = []
        for side, name in enumerate(SIDES):
            pair, length = self._segment(question, side)
            if self.has_text:
                shown = np.unique(np.linspace(0, length - 1, min(FRAMES, length)).round().astype(int))
                states = _states(pair, length)
                drawn = _beside([f"step {i + 1}\n{self._env.text(states[i])}" for i in shown])
            else:
                rows = {**_features(pair, length), **_actions(pair.action[:length])}
                drawn = "\n".join(f"{name:>12} {_bars(row)}" for name, row in rows.items())
            parts.append(f"{name}, {length} steps\n{drawn}")
        return "\n\n".join(parts)

    def _segment(self, question: Question, side: int) -> tuple[Pair, int]:
        """A segment with leaves ``[L, ...]``, and the number of its steps, at least 1."""
        mask = question.segments[".mask"][side]
        pair = jax.tree.map(lambda leaf: leaf[side], like(self._like, question.segments))
        return pair, max(1, int(mask.sum()))


def _states(pair: Pair, length: int) -> list[Any]:
    return [jax.tree.map(lambda leaf, t=t: leaf[t], pair.observation.env_state) for t in range(length)]


def _features(pair: Pair, length: int) -> dict[str, np.ndarray]:
    """The first features ``[L]`` of the observations, by name."""
    rows = np.asarray(types.features(pair.observation)[:length]).reshape(length, -1).T
    return {f"feature {i}": row for i, row in enumerate(rows[:LINES])}


def _actions(action: np.ndarray) -> dict[str, np.ndarray]:
    rows = np.asarray(action).reshape(len(action), -1).T
    return {f"action {i}" if len(rows) > 1 else "action": row for i, row in enumerate(rows[:LINES])}


def _plot(features: dict[str, np.ndarray], action: np.ndarray) -> bytes:
    """The features and the actions over the steps of a segment, as PNG."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = {**features, **_actions(action)}
    figure, axes = pyplot.subplots(len(rows), 1, figsize=(5, 4), sharex=True, squeeze=False)
    for each, (name, row) in zip(axes[:, 0], rows.items(), strict=True):
        each.step(np.arange(1, len(row) + 1), row, where="mid", color="C1" if name.startswith("action") else "C0")
        each.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        each.tick_params(labelsize=7)
    axes[-1, 0].set_xlabel("step", fontsize=8)
    figure.tight_layout(h_pad=0.2)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    pyplot.close(figure)
    return file.getvalue()


def _bars(row: np.ndarray) -> str:
    """A row of numbers as a line of bars, with its range."""
    low, high = float(row.min()), float(row.max())
    levels = (np.asarray(row, float) - low) / max(high - low, 1e-9) * (len(BARS) - 1)
    return "".join(BARS[int(level)] for level in levels.round()) + f"  {low:.3g} to {high:.3g}"


def _beside(blocks: list[str]) -> str:
    """Blocks of text next to each other."""
    lines = [block.split("\n") for block in blocks]
    height = max(map(len, lines))
    columns = [[line.ljust(max(map(len, block))) for line in block + [""] * (height - len(block))] for block in lines]
    return "\n".join("  ".join(row) for row in zip(*columns, strict=True))
