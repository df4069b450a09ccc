"""``jaxrl plot``: draws the learning curves of one or several runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from jaxrl.cli.errors import UsageError
from jaxrl.cli.parsing import parse
from jaxrl.runs.curves import draw
from jaxrl.runs.folder import RunFolder

FORMATS = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".webp")


@dataclasses.dataclass(frozen=True)
class PlotFlags:
    """Draw learning curves: the interquartile mean with its bootstrap interval, the mean, and single seeds.

    With fewer than four seeds the mean is drawn without an interval. Evaluations during training are drawn as diamonds.
    Two-player runs are drawn by their score against a random player.
    """

    runs: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)")
    ]
    """Run folders. Each run gets one curve, or one per value of its sweep."""
    out: Annotated[
        Path | None,
        tyro.conf.arg(metavar="FILE", help_behavior_hint="(default: RUN/curve.png; curves.png for several runs)"),
    ] = None
    """The picture; the ending selects the format."""
    metric: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="COLUMN", help_behavior_hint="(default: episode_return; in two-player games evaluation_score)"
        ),
    ] = None
    """The column of metrics.csv to draw."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; see ``jaxrl.cli.main`` for errors and exit codes."""
    flags = parse(PlotFlags, arguments, prog="jaxrl plot")
    if not flags.runs:
        raise UsageError("RUN is missing: jaxrl plot RUN...")
    folders = [RunFolder(run) for run in flags.runs]
    for folder in folders:
        folder.peek_config()
    path = flags.out or (folders[0].curve_file if len(folders) == 1 else Path("curves.png"))
    if path.is_dir() or path.suffix.lower() not in FORMATS:
        raise UsageError(f"--out: got {path}, must be a file that ends in one of {', '.join(FORMATS)}")
    try:
        replaced = draw(folders, path, flags.metric)
    except ValueError as error:
        raise UsageError(str(error)) from error
    for label, drawn in replaced.items():
        print(f"'{drawn}' stands for '{label}', which no installed font can draw")
    print(f"drawn: {path}")
    return 0
