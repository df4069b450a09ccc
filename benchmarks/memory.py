"""Tasks that need memory: share of right answers of PPO with and without it, mean and worst seed.

    python -m benchmarks.memory                            # the table of RESULTS.md
    python -m benchmarks.memory TMaze-20 --agents gru      # a part of it
    python -m benchmarks.memory MemoryChain-40 --seeds 2

Every row is a command line of ``jaxrl train ppo`` with the preset of the task; rows differ in the torso and the window.
An answer is right if the return of the episode is above 0. An agent without memory is right in half of the episodes: in
the memory chain whatever it does, in the T-maze at best. Actions are greedy.
"""

from __future__ import annotations

import argparse

import numpy as np
from rich.console import Console

from benchmarks.learning import describe_machine, trained
from jaxrl.runs.evaluation import evaluate_members

TASKS = ("MemoryChain-20", "TMaze-20")
EPISODES = 512
"""A seed; the share of a forgetful one has a standard deviation of 2.2 % over them."""

AGENTS = {
    "mlp": "--torso mlp",
    "mlp, window": "--torso mlp --window {window}",
    "transformer, window": "--torso transformer --window {window} {tuned}",
    "transformer, short window": "--torso transformer --window {short} {tuned}",
    "gru": "--torso gru",
}
"""Name -> flags; the window holds the whole episode, the short one lacks the cue when it is asked for."""

TUNED = {
    "MemoryChain": "--learning-rate 1e-3 --entropy-coef 0.03",
    "TMaze": "--learning-rate 2e-3 --entropy-coef 0.05 --num-steps 400000",
}
"""A transformer's; the preset is for a GRU. With less entropy it settles for a guess before it has found the cue."""


def flags_of(agent: str, task: str) -> str:
    """The flags of an agent in a task, whose length its name ends in."""
    family, _, length = task.rpartition("-")
    return AGENTS[agent].format(window=int(length) + 4, short=int(length) // 2, tuned=TUNED.get(family, ""))


def measure(task: str, agent: str, seeds: int, console: Console) -> str:
    """Trains and evaluates; returns a line of a Markdown table."""
    command = f"ppo {task} {flags_of(agent, task)} --seeds {seeds}"
    built, state, seconds = trained(f"{command} --seed 1", console)
    returns = evaluate_members(built, state.agent, num_episodes=EPISODES).returns
    right = 100.0 * (returns > 0.0).mean(axis=1)
    error = right.std(ddof=1) / np.sqrt(len(right)) if len(right) > 1 else float("nan")
    share = f"{right.mean():.1f} ± {error:.1f} | {right.min():.1f} | {right.max():.1f}"
    return f"| `jaxrl train {command} --seed 1` | {share} | {returns.mean():.2f} | {seconds:.0f} s |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=TASKS, help="names of environments, which end in a length")
    parser.add_argument("--agents", nargs="+", choices=AGENTS, default=list(AGENTS))
    parser.add_argument("--seeds", type=int, default=4)
    given = parser.parse_args()
    console = Console(stderr=True)
    print(f"Measured on {describe_machine()}\n")
    print(
        "| command | right answers, %, mean ± standard error over seeds | worst seed | best seed | return | wall time |"
    )
    print("|---|---|---|---|---|---|")
    for task in given.tasks:
        for agent in given.agents:
            print(measure(task, agent, given.seeds, console), flush=True)


if __name__ == "__main__":
    main()
