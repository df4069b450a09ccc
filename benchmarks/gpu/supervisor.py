"""Runs rows in a worker process, stops those that take too long, and keeps every result in a file at once."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

STARTING = 300.0
"""Seconds in which a worker must be ready: it imports JAX and finds the device."""


class Died(Exception):
    """The worker gave no answer; the message says whether it hung or ended, and what it last printed."""


class Worker:
    """A worker process with its children, which are ended together."""

    def __init__(self, command: Sequence[str]) -> None:
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115, open as long as the process is
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, start_new_session=True
        )
        self.answers: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.answers.put(line)
        self.answers.put(None)

    def answer(self, seconds: float) -> dict[str, Any]:
        """The next answer; ``Died`` if none comes in time."""
        try:
            line = self.answers.get(timeout=max(seconds, 0.1))
        except queue.Empty:
            self.end()
            raise Died(f"no answer within {seconds:.0f} s") from None
        if line is None:
            code = self.process.wait()
            raise Died(f"the process ended with status {code}{self._last_words()}")
        return json.loads(line)

    def ask(self, row: str, seconds: float) -> dict[str, Any]:
        """Runs a row."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer tells
            self.process.stdin.write(f"{row}\n")
            self.process.stdin.flush()
        return self.answer(seconds)

    def _last_words(self) -> str:
        self.log.seek(0)
        lines = [line for line in self.log.read().splitlines() if line.strip()]
        return f": {lines[-1].strip()[:200]}" if lines else ""

    def end(self) -> None:
        """Ends the process and whatever it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def measured(
    command: Sequence[str], seconds: float, path: Path, chosen: Callable[[str], bool], say: Callable[[str], None]
) -> tuple[str, list[dict[str, Any]]]:
    """Runs the chosen rows in order until the time is over.

    Rows that ``path`` has as done on the same device at the same sizes are not run again.

    Args:
      command: starts a worker.
      seconds: for everything, from now on.
      path: the file that each result is appended to as soon as it is there, a line of JSON.
      chosen: whether a row is wanted, by its name.
      say: shows what goes on.

    Returns:
      The device, and a line for each row in order; those without time left have the status ``not started``.
    """
    end = time.monotonic() + seconds
    worker = Worker(command)
    try:
        about = worker.answer(STARTING)
        sizes = {"device": about["device"], "small": about["small"]}
        say(f"{about['device']}{', smallest sizes' if about['small'] else ''}")
        before = {line["row"]: line for line in lines_of(path) if sizes.items() <= line.items()}
        lines = []
        for name, limit, needs, published in about["rows"]:
            if not chosen(name):
                continue
            if before.get(name, {}).get("status") == "done":
                lines.append(before[name])
                continue
            line = {"row": name, **sizes, "published": published, "figures": {}, "reason": "", "seconds": 0.0}
            left = end - time.monotonic()
            if left < max(needs, 1.0):
                reason = f"{max(left, 0):.0f} s left, takes at least {max(needs, 1):.0f} s"
                lines.append({**line, "status": "not started", "reason": reason})
                continue
            say(f"{name} ({left:.0f} s left)")
            begin = time.monotonic()
            try:
                line |= worker.ask(name, min(limit, left))
            except Died as error:
                stopped = str(error).startswith("no answer")
                passed = time.monotonic() - begin
                line |= {"status": "stopped" if stopped else "crashed", "reason": str(error), "seconds": passed}
            append(path, line)
            lines.append(line)
            if line["status"] not in ("done", "skipped", "wrong") and end - time.monotonic() > 1.0:
                worker.end()  # a device that failed once may fail again
                worker = Worker(command)
                worker.answer(STARTING)
        return about["device"], lines
    finally:
        worker.end()


def append(path: Path, line: dict[str, Any]) -> None:
    """Adds a line to the file, which is on disk when this returns."""
    with path.open("a+b") as file:
        file.seek(0, os.SEEK_END)
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")  # the last line was cut off by a kill
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of the file; one that was cut off by a kill is left out."""
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(text)
        except json.JSONDecodeError:
            continue
