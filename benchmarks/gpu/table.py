"""All rows, in order of worth, and the table of what they found.

Worth is counted for each second: what a row of a minute tells comes before what a row of ten minutes tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from benchmarks.gpu.row import Row


def all_rows() -> tuple[Row, ...]:
    """Every row, the first one first."""
    from benchmarks.gpu import agreement, memory, training, trees, writing

    rest = agreement.others()
    return (
        *training.CARTPOLE,
        *agreement.EQUALITY,
        *trees.ROWS,
        *training.OFF_POLICY,
        *training.BREAKOUT,
        *memory.ROWS,
        *writing.ROWS,
        *training.MINATAR,
        *training.VALUES,
        *agreement.rows(agreement.equality, rest, limit=120),
        *agreement.CONFORMANCE,
        *agreement.rows(agreement.conformance, rest, limit=120),
    )


def shown(value: Any) -> str:
    """A figure, with three digits."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def as_table(lines: Iterable[Mapping[str, Any]], title: str) -> Table:
    """A rich table of lines of the file: what each row found, or why it found nothing."""
    table = Table(title=title, title_justify="left")
    for column in ("row", "status", "found", "published", "seconds"):
        table.add_column(column, justify="right" if column == "seconds" else "left", overflow="fold")
    colours = {"done": "green", "skipped": "yellow", "not started": "yellow"}
    for line in lines:
        found = line.get("reason") or ", ".join(f"{name} {shown(value)}" for name, value in line["figures"].items())
        colour = colours.get(line["status"], "red")
        status = f"[{colour}]{line['status']}[/{colour}]"
        table.add_row(line["row"], status, found, line["published"], f"{line['seconds']:.0f}")
    return table
