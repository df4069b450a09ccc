"""Learning: greedy or sampled returns after a stated budget, mean and worst seed, beside a stated target.

    python benchmarks/learning.py                    # the rows of a laptop
    python benchmarks/learning.py ppo a2c            # of these recipes
    python benchmarks/learning.py --rows 0 3 5       # by number, see --list
    python benchmarks/learning.py --gpu              # MinAtar at 10M steps as well
    python benchmarks/learning.py --transformer      # instead of those, every recipe with a transformer for torso

Every row is a command line of ``jaxrl train``, so any of them can be run, looked at and plotted alone. Tuning was done
on ``--seed 0``; rows are measured on ``--seed 1``, all seeds of a row side by side in one program, none left out.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jaxlib
import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks import frozen_lake
from jaxrl.cli.flags import parse
from jaxrl.runs.building import Built, build, make_mesh, make_program
from jaxrl.runs.evaluation import evaluate_members
from jaxrl.runs.finish import on_one_device
from jaxrl.training import fit


def mean_return(row: Row, built: Built, state: Any, explore: bool) -> np.ndarray:
    """Of whole episodes, ``[S]``; Pendulum's start from the same 256 states for every seed."""
    if "Pendulum-v1" in row.command:
        built = built._replace(keys=jax.numpy.broadcast_to(jax.random.key(0), built.keys.shape))
    return evaluate_members(built, state.agent, num_episodes=row.episodes, explore=explore).returns.mean(axis=1)


def success(row: Row, built: Built, state: Any, explore: bool) -> np.ndarray:
    """Percent of episodes that reach their goal, ``[S]``, where each step short of it pays -1 and the last one 0."""
    ended = evaluate_members(built, state.agent, num_episodes=row.episodes, explore=explore)
    return 100.0 * (ended.returns + ended.lengths > 0).mean(axis=1)


def exact_value(row: Row, built: Built, state: Any, explore: bool) -> np.ndarray:
    """The value of greedy policies at FrozenLake's start in percent of the best policy's, both exact, ``[S]``."""
    del row, explore  # greedy policies, whole
    model = frozen_lake.model_of(built.env)
    return np.array(
        [100.0 * frozen_lake.share_of_best(model, table.argmax(-1)) for table in np.asarray(state.agent.params)]
    )


class Row(NamedTuple):
    """A command line, the targets of its mean and its worst seed, and how it is scored.

    ``policies``: greedy, sampled, or both. ``score``: a function of the row, the run, its last state and ``explore``.
    ``seeds``: a run for each ``--seed``, one after the other.
    ``devices``: that the row needs, else it is left out; ``JAX_NUM_CPU_DEVICES=8`` makes so many of one CPU.
    """

    command: str
    reach: float | None
    policies: tuple[str, ...] = ("greedy",)
    episodes: int = 128
    gpu: bool = False
    worst: float | None = None
    score: Callable[..., np.ndarray] = mean_return
    seeds: tuple[int, ...] = (1,)
    devices: int = 1


SAMPLED, BOTH = ("sampled",), ("greedy", "sampled")
LAPTOP_MINATAR = "--seeds 2 --num-steps 1000000"
ROWS = (
    Row("reinforce CartPole-v1 --seeds 8", 480),
    Row("reinforce CartPole-v1 --seeds 8 --no-baseline --num-envs 8 --rollout-length 512", 480),
    Row("a2c CartPole-v1 --seeds 8", 490),
    Row("ppo CartPole-v1 --seeds 16 --num-steps 500000", 498),
    Row("ppo CartPole-v1 --seeds 16 --num-steps 100000", 490),
    Row("ppo Acrobot-v1 --seeds 8", -78),
    Row("ppo Pendulum-v1 --seeds 8", -165, episodes=256),
    Row("ppo MountainCar-v0 --seeds 8", -115),
    Row(f"ppo SpaceInvaders-MinAtar {LAPTOP_MINATAR}", None, policies=SAMPLED),
    Row(f"ppo Breakout-MinAtar {LAPTOP_MINATAR}", None, policies=SAMPLED),
    *(
        Row(f"{name} FrozenLake-misc --seeds 8", 98, score=exact_value)
        for name in ("q_learning", "sarsa", "expected_sarsa")
    ),
    *(Row(f"{name} CartPole-v1 --seeds 8", 490) for name in ("dqn", "c51", "qr_dqn", "iqn", "rainbow", "pqn")),
    *(Row(f"{name} Acrobot-v1 --seeds 8", None) for name in ("dqn", "qr_dqn")),
    *(Row(f"{name} MountainCar-v0 --seeds 8", None) for name in ("dqn", "qr_dqn")),
    *(Row(f"{name} Pendulum-v1 --seeds 8", -160, episodes=256, worst=-220) for name in ("ddpg", "td3", "sac")),
    *(
        Row(f"{name} SpaceInvaders-MinAtar --seeds 2 --num-steps 500000", None, policies=BOTH)
        for name in ("dqn", "c51", "qr_dqn", "iqn", "rainbow", "pqn")
    ),
    Row("alphazero CartPole-v1 --seeds 4", None),
    Row("dqn BitFlipping-40 --seeds 8", 99, score=success),
    Row("ppo CartPole-v1 --seeds 8 --num-steps 100000 --devices 8", 490, devices=8),
    Row("dqn CartPole-v1 --seeds 4 --num-envs 8 --devices 8", 490, devices=8),
    Row(
        "td3 Pendulum-v1 --seeds 4 --num-envs 4 --num-gradient-steps 4 --devices 4",
        -160,
        episodes=256,
        worst=-220,
        devices=4,
    ),
    Row("ppo SpaceInvaders-MinAtar --seeds 4", 140, policies=SAMPLED, gpu=True),
    Row("ppo Breakout-MinAtar --seeds 4", 45, policies=SAMPLED, gpu=True),
    Row("ppo Asterix-MinAtar --seeds 4", 25, policies=SAMPLED, gpu=True),
    Row("ppo Freeway-MinAtar --seeds 4", 62, policies=SAMPLED, gpu=True),
    Row("trpo CartPole-v1 --seeds 8", 495),
    Row("trpo Pendulum-v1 --seeds 8", -170, episodes=256),
    Row("a3c CartPole-v1 --seeds 5", 475),
    # Threads differ from run to run, and there is one state for all: seeds are runs of their own.
    Row("a3c CartPole-v1 --workers 4", 475, seeds=(1, 2, 3, 4, 5)),
)

ATTENDS = "--seeds 2 --torso transformer"
TRANSFORMER_ROWS = (
    # Rates chosen for an MLP: where presets have large ones, a transformer wants smaller steps, and more of them.
    Row(f"reinforce CartPole-v1 {ATTENDS} --num-envs 2 --learning-rate 3e-4 --gamma 0.98", 480),
    Row(f"a2c CartPole-v1 {ATTENDS} --num-envs 4 --learning-rate 3e-4", 490),
    Row(f"a3c CartPole-v1 {ATTENDS} --num-envs 4 --learning-rate 3e-4 --entropy-coef 0.01", 475),
    Row(f"ppo CartPole-v1 {ATTENDS} --num-steps 100000", 490),
    Row(f"ppo CartPole-v1 {ATTENDS} --num-steps 500000", 498),
    Row(f"ppo Pendulum-v1 {ATTENDS} --torso.gated --learning-rate 5e-4 --rollout-length 256", -165, episodes=256),
    Row(f"trpo CartPole-v1 {ATTENDS} --num-steps 100000", 495),
    Row(f"trpo Pendulum-v1 {ATTENDS} --num-steps 300000", -170, episodes=256),
    *(Row(f"{name} CartPole-v1 {ATTENDS}", 490) for name in ("pqn", "dqn", "c51", "qr_dqn", "iqn", "rainbow")),
    *(Row(f"{name} Pendulum-v1 {ATTENDS}", -160, episodes=256, worst=-220) for name in ("ddpg", "td3", "sac")),
)


def describe_machine() -> str:
    """The machine that the figures were measured on."""
    device = jax.devices()[0]
    versions = f"jax {jax.__version__}, jaxlib {jaxlib.__version__}, Python {platform.python_version()}"
    return f"{device.device_kind} ({device.platform}), {os.cpu_count()} cores, {versions}, {datetime.date.today()}"


def trained(command: str, console: Console) -> tuple[Built, Any, float]:
    """Runs a command line to its end; returns the run, its last state, and the seconds, compilation included."""
    config, _ = parse(command.split())
    built = build(config)
    program = make_program(config, built, make_mesh(config))
    chunk = max(1, built.num_updates // 20)
    start = time.perf_counter()
    state = program.start()
    done = 0
    for _ in track(range(0, built.num_updates, chunk), description=command, console=console, transient=True):
        done = min(done + chunk, built.num_updates)
        state, _ = fit(program, num_updates=done, updates_per_chunk=chunk, state=state)
    if config.devices > 1:
        state = state._replace(agent=on_one_device(state.agent))
    return built, state, time.perf_counter() - start


def measure(row: Row, console: Console) -> str:
    """Runs a row; returns a line of a Markdown table for each policy."""
    runs = [trained(f"{row.command} --seed {seed}", console) for seed in row.seeds]
    seconds = sum(run[2] for run in runs)
    scores = {
        policy: np.concatenate([row.score(row, built, state, policy == "sampled") for built, state, _ in runs])
        for policy in row.policies
    }
    return "\n".join(line(row, policy, scores[policy], seconds) for policy in row.policies)


def line(row: Row, policy: str, scores: np.ndarray, seconds: float) -> str:
    """A line of the table: the mean of the seeds, their standard error, and the worst one."""
    error = scores.std(ddof=1) / np.sqrt(len(scores)) if len(scores) > 1 else float("nan")
    reach = "reported" if row.reach is None else f">= {row.reach:g}"
    reach += "" if row.worst is None else f", worst >= {row.worst:g}"
    marks = ((scores.mean(), row.reach), (scores.min(), row.worst))
    more = f" to {row.seeds[-1]}" if len(row.seeds) > 1 else ""
    reached = all(mark is None or score >= mark for score, mark in marks)
    verdict = "" if row.reach is None else ("yes" if reached else "NO")
    policy += "" if row.score is mean_return else f", {row.score.__name__} %"
    return (
        f"| `jaxrl train {row.command} --seed {row.seeds[0]}`{more} "
        f"| {policy} | {scores.mean():.1f} ± {error:.1f} | {scores.min():.1f} "
        f"| {reach} | {verdict} | {seconds:.0f} s |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", help="only the rows of these recipes")
    parser.add_argument("--rows", type=int, nargs="*", help="only these rows, by number")
    parser.add_argument("--gpu", action="store_true", help="also the rows that need a GPU")
    parser.add_argument("--transformer", action="store_true", help="only the rows with a transformer as torso")
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    chosen = [
        (number, row)
        for number, row in enumerate(TRANSFORMER_ROWS if arguments.transformer else ROWS)
        if (arguments.rows is None or number in arguments.rows)
        and (arguments.gpu or arguments.rows is not None or not row.gpu)
        and row.devices <= jax.device_count()
        and (not arguments.recipes or row.command.split()[0] in arguments.recipes)
    ]
    if arguments.list:
        for number, row in chosen:
            print(number, row.command, "(GPU)" if row.gpu else "")
        return
    print(f"Measured on {describe_machine()}\n")
    print("| command | policy | mean ± standard error over seeds | worst seed | reach | reached | wall time |")
    print("|---|---|---|---|---|---|---|")
    for _, row in chosen:
        print(measure(row, console), flush=True)


if __name__ == "__main__":
    main()
