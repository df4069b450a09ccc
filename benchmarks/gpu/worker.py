"""The process that measures: it is told a row on standard input and answers with a line of JSON.

``benchmarks.gpu`` starts it, and starts another one when a row hung or brought it down. The first line that it prints
describes the device and the rows.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
import traceback
from typing import Any

import jax

from benchmarks.gpu.row import Row, Skipped
from benchmarks.gpu.table import all_rows
from benchmarks.learning import describe_machine


def result(row: Row, small: bool) -> dict[str, Any]:
    """What came of a row: ``done`` with figures, ``skipped``, ``wrong`` or ``failed`` with a reason."""
    begin = time.perf_counter()
    status, figures, reason = "done", {}, ""
    try:
        figures = row.measure(small)
        reason = figures.pop("wrong", "")
        status = "wrong" if reason else "done"
    except Skipped as error:
        status, reason = "skipped", str(error)
    except Exception as error:  # the next row may still work
        traceback.print_exc()
        status, reason = "failed", f"{type(error).__name__}: {error}".splitlines()[0]
    jax.clear_caches()
    gc.collect()
    return {"status": status, "figures": figures, "reason": reason, "seconds": time.perf_counter() - begin}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", choices=("yes", "no", "auto"), default="auto")
    arguments = parser.parse_args()
    # Libraries print to standard output too: it is handed to standard error, and answers go to a copy.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    rows = {row.name: row for row in all_rows()}
    small = jax.devices()[0].platform == "cpu" if arguments.small == "auto" else arguments.small == "yes"
    about = [[row.name, row.limit, 0.0 if small else row.needs, row.published] for row in rows.values()]
    cached = ", compiled programs may come from a cache" if jax.config.jax_compilation_cache_dir else ""
    json.dump({"device": describe_machine() + cached, "small": small, "rows": about}, answers)
    answers.write("\n")
    for line in sys.stdin:
        json.dump(result(rows[line.strip()], small), answers)
        answers.write("\n")


if __name__ == "__main__":
    main()
