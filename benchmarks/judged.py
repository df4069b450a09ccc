"""The row ``judge`` of ``benchmarks.feedback``: ``ppo`` taught by a judge over HTTP, whose server is killed twice."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxrl import runs
from jaxrl.feedback.judge import Cache

LABELS, NUM_STEPS = 200, 60_000

DEATHS, AWAY = (0.3, 0.6), 3.0
"""The share of calls after which the server is killed, and the seconds until it is there again."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def mortal_server(port: int, mistake: float, file: Path, calls: int, deaths: list[int]) -> Iterator[None]:
    """A scripted judge in a process of its own, killed by SIGKILL after shares of the calls, and started again.

    Args:
      port: where it listens.
      mistake: the share of pairs about which it is wrong.
      file: the run's cache, which counts calls.
      calls: the number that is expected.
      deaths: the calls at which the server was killed are appended.
    """
    command = [sys.executable, "-m", "benchmarks.judge_server", str(port), "--mistake", str(mistake)]
    over = threading.Event()

    def live() -> None:
        process, cache = subprocess.Popen(command), None
        try:
            while not over.wait(0.2):
                cache = cache or (Cache(file) if file.exists() else None)
                made = 0 if cache is None else cache.calls
                if len(deaths) < len(DEATHS) and made > DEATHS[len(deaths)] * calls:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    deaths.append(made)
                    over.wait(AWAY)
                    process = subprocess.Popen(command)
        finally:
            process.kill()
            process.wait()

    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def main(mistake: float, num_seeds: int, seed: int, labels: int | None, out: str | None) -> dict[str, np.ndarray]:
    """The mean return of each seed."""
    labels = labels or LABELS
    folder = Path(out or tempfile.mkdtemp()) / "judged"
    shutil.rmtree(folder, ignore_errors=True)
    port, deaths = free_port(), list[int]()
    begin = time.perf_counter()
    feedback = {
        "name": "preferences",
        "teacher": "judge",
        "labels": labels,
        "query_interval": 2_000,
        "num_gradient_steps": 50,
        "judge_url": f"http://127.0.0.1:{port}/v1",
        "judge_model": "scripted",
    }
    with mortal_server(port, mistake, folder / "judge.sqlite", 2 * labels * num_seeds, deaths):
        runs.train(folder, "ppo", "CartPole-v1", num_steps=NUM_STEPS, seeds=num_seeds, seed=seed, feedback=feedback)
    returns = np.array(json.loads((folder / "evaluation.json").read_text())["returns"]).mean(axis=1)
    cache = Cache(folder / "judge.sqlite")
    print(
        f"ppo + judge over HTTP, CartPole-v1, {labels} comparisons, {mistake:.0%} wrong, both orders, key({seed}): "
        f"mean {returns.mean():.1f}, worst {returns.min():.1f}; {cache.calls} calls, the server was killed after "
        f"{' and '.join(map(str, deaths))}; {time.perf_counter() - begin:.0f} s"
    )
    print("each seed:", " ".join(f"{value:.1f}" for value in returns), flush=True)
    return {"returns": returns, "deaths": np.array(deaths), "calls": np.array(cache.calls)}
