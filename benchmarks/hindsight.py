"""Bit flipping over the number of bits: the same DQN, on the same budget, with hindsight and without.

    python benchmarks/hindsight.py                                 # the table, and docs/hindsight.png
    python benchmarks/hindsight.py --bits 5 10 --seeds 2 --num-steps 50000 --out curve.png

Every cell is a command line of ``jaxrl train dqn BitFlipping-N`` with the preset of the recipe, ``--replay`` aside:
nothing was tuned for the plain replay. Success is measured in greedy episodes after training, on starts and goals never
seen. ``examples/hindsight.py`` shows one of these sizes as it learns.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console

from benchmarks.learning import Row, describe_machine, success, trained

REPLAYS = {"hindsight": "with hindsight", "uniform": "without"}
Curves = dict[str, list[np.ndarray]]
"""Replay -> for each number of bits the success of each seed, percent ``[S]``."""


def measure(bits: list[int], num_steps: int, seeds: int, console: Console) -> Curves:
    """Trains and evaluates all of them, and prints a line of a Markdown table for each number of bits."""
    curves: Curves = {name: [] for name in REPLAYS}
    print("| bits | " + " | ".join(f"{label}, mean | worst seed" for label in REPLAYS.values()) + " | wall time |")
    print("|---" * (2 + 2 * len(REPLAYS)) + "|")
    for n in bits:
        cells, total = [], 0.0
        for name in REPLAYS:
            command = f"dqn BitFlipping-{n} --replay {name} --num-steps {num_steps} --seeds {seeds} --seed 1"
            built, state, seconds = trained(command, console)
            curves[name].append(success(Row(command, None), built, state, explore=False))
            cells += [f"{curves[name][-1].mean():.1f} %", f"{curves[name][-1].min():.1f} %"]
            total += seconds
        print(f"| {n} | " + " | ".join(cells) + f" | {total:.0f} s |", flush=True)
    return curves


def draw(bits: list[int], curves: Curves, title: str, out: Path) -> None:
    """Draws the mean of each replay as a line, and its seeds as points."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, label in REPLAYS.items():
        (line,) = axes.plot(bits, [values.mean() for values in curves[name]], marker="o", label=label)
        for n, values in zip(bits, curves[name], strict=True):
            axes.plot([n] * len(values), values, ".", color=line.get_color(), alpha=0.4)
    axes.set(xlabel="number of bits", ylabel="episodes that reach the goal, %", ylim=(-3, 103), title=title)
    axes.legend(loc="center right")
    figure.savefig(out, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, nargs="+", default=[5, 8, 10, 13, 15, 20, 30, 40])
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--num-steps", type=int, default=500_000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / "hindsight.png")
    given = parser.parse_args()
    print(f"Measured on {describe_machine()}\n")
    curves = measure(given.bits, given.num_steps, given.seeds, Console(stderr=True))
    draw(given.bits, curves, f"DQN, bit flipping: {given.num_steps:,} steps, {given.seeds} seeds", given.out)
    print(f"\ndrawn to {given.out}")


if __name__ == "__main__":
    main()
