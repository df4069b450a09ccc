"""Measures jaxrl on the accelerator that JAX finds: rows in order of worth, each with a time limit.

    python -m benchmarks.gpu --minutes 8 --out results     # goes on where an earlier call stopped
    python -m benchmarks.gpu --minutes 2 --out try         # on a CPU: the smallest sizes of all
    python -m benchmarks.gpu --rows search equality --out results

Each result is appended to DIR/rows.jsonl as soon as it is there; the table comes last. What is not installed is
skipped, what hangs is stopped, what crashes is reported, and the next row begins in any case.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.gpu.supervisor import Died, measured
from benchmarks.gpu.table import as_table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="for everything")
    parser.add_argument("--out", type=Path, required=True, help="folder of rows.jsonl")
    parser.add_argument("--rows", nargs="*", default=[""], help="only rows whose names begin with one of these")
    parser.add_argument("--small", choices=("yes", "no", "auto"), default="auto", help="smallest sizes; auto: on a CPU")
    parser.add_argument("--rejax", help="a Python that has rejax, in an environment of its own")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # rejax shares the device
    if arguments.rejax:
        os.environ["JAXRL_REJAX_PYTHON"] = arguments.rejax
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the worker is ended too
    try:
        device, lines = measured(
            [sys.executable, "-m", "benchmarks.gpu.worker", "--small", arguments.small],
            60.0 * arguments.minutes,
            arguments.out / "rows.jsonl",
            lambda name: name.startswith(tuple(arguments.rows)),
            lambda text: console.print(text, style="dim", highlight=False),
        )
    except Died as error:
        console.print(f"no device was ready: {error}")
        return 1
    console.print(as_table(lines, device))
    return int(any(line["status"] in ("failed", "crashed", "wrong") for line in lines))


if __name__ == "__main__":
    sys.exit(main())
