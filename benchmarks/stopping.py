"""Seconds from SIGTERM to the exit of a run.

    python -m benchmarks.stopping                 # all rows
    python -m benchmarks.stopping dqn alphazero
    python -m benchmarks.stopping training sac    # at this moment alone

Each row is started as a command and stopped three times: while it compiles, right after, and once it trains. Schedulers
kill a few seconds after SIGTERM, so a pause without an upper bound shows here. Wall seconds on a busy machine are an
upper bound of those on a quiet one.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

LIMIT = 8.0
"""Seconds that a run may take to stop."""

ROWS = {
    "ppo 50M": "ppo CartPole-v1 --steps 50M",
    "ppo 500M": "ppo CartPole-v1 --num-envs 4 --rollout-length 16 --steps 500M",
    "ppo 8 seeds, evaluated": "ppo CartPole-v1 --seeds 8 --steps 50M --eval-every 50k",
    "dqn": "dqn CartPole-v1 --steps 50M",
    "dqn, replay of 1M": "dqn CartPole-v1 --steps 50M --replay-capacity 1000000",
    "td3": "td3 Pendulum-v1 --steps 50M",
    "alphazero": "alphazero pgx/tic_tac_toe --steps 50M",
    "alphazero, evaluated": "alphazero pgx/tic_tac_toe --steps 50M --eval-every 20k",
    "a3c --workers 2": "a3c CartPole-v1 --workers 2 --steps 50M",
    "q_learning": "q_learning FrozenLake-misc --steps 500M",
    "sac": "sac Pendulum-v1 --steps 50M",
    "muzero": "muzero CartPole-v1 --steps 50M",
    "mbmf": "mbmf Pendulum-v1 --steps 50M",
    "world_models": "world_models TakeCover --steps 50M",
}

MOMENTS = ("compiling", "first chunk", "training")

COMPILING_AFTER = 3.0
"""CPU seconds after a run has taken its folder, when it compiles."""


def stop(arguments: str, moment: str, folder: Path) -> tuple[float, int]:
    """Seconds from SIGTERM to the exit, and the exit code."""
    command = [sys.executable, "-u", "-m", "jaxrl", "train", *arguments.split(), "--no-cache", "--out", str(folder)]
    with (folder.parent / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    child, taken = psutil.Process(process.pid), None
    try:
        while process.poll() is None:
            text = (folder.parent / "log").read_text()
            spent = sum(child.cpu_times()[:2])
            taken = spent if taken is None and (folder / "lock").exists() else taken
            if moment == "compiling" and taken is not None and spent > taken + COMPILING_AFTER:
                assert "compiled in" not in text, "it compiled in less"
                break
            if moment == "first chunk" and "compiled in" in text:
                break
            if moment == "training" and "steps in all" in text:
                time.sleep(3.0)
                break
            time.sleep(0.05)
        assert process.poll() is None, (folder.parent / "log").read_text()
        process.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        code = process.wait(timeout=120)
    finally:
        process.kill()
    return time.monotonic() - begin, code


def main(names: list[str]) -> int:
    """Prints a line for each row; returns 1 where one took longer than ``LIMIT``."""
    worst = 0.0
    moments = [moment for moment in MOMENTS if moment in names] or MOMENTS
    for name in [name for name in names if name not in MOMENTS] or ROWS:
        for moment in moments:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    seconds, code = stop(ROWS[name], moment, Path(folder) / "run")
                except AssertionError as error:
                    print(f"{name:24} {moment:12} no result: {error}", flush=True)
                    continue
            worst = max(worst, seconds)
            print(f"{name:24} {moment:12} {seconds:5.1f} s, exit code {code}", flush=True)
    print(f"worst: {worst:.1f} s of {LIMIT:.0f}")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
