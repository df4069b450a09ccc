"""Environments outside JAX: returns or successes after a stated budget, mean and worst seed, beside a stated target.

    python -m benchmarks.environments --list
    python -m benchmarks.environments ppo_lunar_lander
    python -m benchmarks.environments ppo_lunar_lander --steps 50000 --seeds 1     # another budget, in another folder

A row is a command line of ``jaxrl train``, whose run is kept in ``runs/environments``. A row that was interrupted
(Ctrl-C, SIGTERM, or a crash) goes on from its last checkpoint when it is started again; one that is finished only
prints its line. Presets were tuned elsewhere or on ``--seed 0``; rows are measured on ``--seed 1``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxrl
from benchmarks.learning import describe_machine
from jaxrl.agents.parts.replaying import to_environment, uniform_action
from jaxrl.cli.main import main as command
from jaxrl.envs.host import HostEnv
from jaxrl.runs.evaluation import standard_error
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.loading import restore
from jaxrl.runs.outside import environments_open
from jaxrl.runs.snapshots import saved_updates
from jaxrl.types import Agent, Spec

RUNS = Path("runs/environments")


class Row(NamedTuple):
    """A command line and its marks.

    Attributes:
      train: the arguments of ``jaxrl train``, without budget and seeds.
      steps: environment steps per seed.
      seeds: the number of seeds.
      reach: the mark of the mean; percent where ``success`` is set. None if the row is only reported.
      worst: the mark of the worst seed.
      success: whether the percentage of episodes that end at their goal is scored, instead of the return.
      beside_random: whether uniformly random actions are measured too; the mean then has to be above theirs by three
        standard errors.
    """

    train: str
    steps: int
    seeds: int
    reach: float | None = None
    worst: float | None = None
    success: bool = False
    beside_random: bool = False


WALKER = "envpool/BipedalWalker-v3"
# 250k steps of the agent are 1M frames: exploration and warm-up are a tenth of those of the presets, for 10M steps.
INVADERS = "ale/space_invaders --learning-starts 10000 --epsilon-steps 60000 --eval-episodes 32"
ROWS = {
    "ppo_bipedal_walker": Row(f"ppo {WALKER}", 5_000_000, 3, reach=300, worst=290),
    "sac_bipedal_walker": Row(f"sac {WALKER}", 500_000, 3, reach=300),
    "td3_bipedal_walker": Row(f"td3 {WALKER}", 500_000, 3, reach=300),
    "ppo_lunar_lander": Row("ppo envpool/LunarLander-v3", 1_000_000, 5, reach=270),
    "sac_fetch_reach": Row("sac envpool/FetchReach-v4", 20_000, 3, reach=100, success=True),
    "td3_fetch_reach": Row("td3 envpool/FetchReach-v4", 20_000, 3, reach=100, success=True),
    "sac_fetch_push": Row("sac envpool/FetchPush-v4", 1_000_000, 1, reach=95, success=True),
    "sac_fetch_pick": Row("sac envpool/FetchPickAndPlace-v4", 2_000_000, 1, reach=60, success=True),
    "sac_fetch_pick_plain": Row("sac envpool/FetchPickAndPlace-v4 --replay uniform", 2_000_000, 1, success=True),
    **{
        f"{recipe}_space_invaders": Row(f"{recipe} {INVADERS}", 250_000, 1, beside_random=True)
        for recipe in ("dqn", "c51", "qr_dqn")
    },
    **{
        f"{recipe}_space_invaders_gpu": Row(
            f"{recipe} ale/space_invaders --eval-episodes 32", 10_000_000, 1, reach=800, beside_random=True
        )
        for recipe in ("dqn", "c51", "qr_dqn")
    },
    "sac_half_cheetah": Row("sac envpool/HalfCheetah-v5 --eval-episodes 32", 300_000, 2, reach=6_000),
}
"""The rows of the table in RESULTS.md by name. Curves are in the run folders: curve.png."""


def random_agent(spec: Spec) -> Agent:
    """Takes uniformly random actions."""

    def act(key: jax.Array, state: Any, observation: Any, *, explore: bool = True) -> tuple[jax.Array, Any]:
        return to_environment(spec, uniform_action(key, spec, observation))[0], ()

    return Agent(lambda key, num_envs=1: (), act, lambda key, state, trajectory: (state, {}))


def random_returns(name: str, episodes: int) -> np.ndarray:
    """Returns ``[episodes]`` of uniformly random actions."""
    env, params = jaxrl.make(name)
    agent = random_agent(jaxrl.spec(env, params))
    play = jax.jit(lambda key: jaxrl.evaluate(key, agent, (), env, params, num_episodes=episodes, explore=True))
    returns = np.asarray(play(jax.random.key(1)).returns)
    if isinstance(env, HostEnv):
        env.close()
    return returns


def trained(name: str, row: Row) -> dict[str, Any] | None:
    """Trains a row, goes on with it, or does nothing if it is finished; its evaluation, or None if it was stopped."""
    folder = RunFolder(RUNS / f"{name}-{row.steps}x{row.seeds}")
    if not folder.evaluation_file.is_file():
        budget = f"--steps {row.steps} --seeds {row.seeds} --seed 1"
        if not folder.config_file.is_file():
            code = command(["train", *row.train.split(), *budget.split(), "--out", str(folder.path)])
        elif max([0, *saved_updates(folder, config := folder.read_config())]) < config.num_updates:
            code = command(["resume", str(folder.path)])
        else:
            code = evaluated(folder)
        if code:
            print(f"{name}: stopped with exit code {code}; the same command goes on with it", flush=True)
            return None
    found: dict[str, Any] = json.loads(folder.evaluation_file.read_text())
    found["minutes"] = minutes(folder)
    return found


def evaluated(folder: RunFolder) -> int:
    """Evaluates a run that was stopped after its training; returns 0."""
    config, built, state = restore(folder.path)
    with environments_open([built], lambda: "the same command evaluates again"):
        outcome = built.kind.evaluator(built, config.eval_episodes, False)(state.agent, 0)
    built.kind.save(folder, outcome, config.num_steps)
    return 0


def minutes(folder: RunFolder) -> float:
    """Minutes of training, without those of interruptions."""
    header, *rows = folder.metrics_file.read_text().splitlines()
    return float(rows[-1].split(",")[header.split(",").index("wall_time")] or "nan") / 60.0


def line(name: str, row: Row, found: dict[str, Any], by_chance: np.ndarray | None) -> str:
    """A line of a Markdown table."""
    scores = np.array([np.mean(seed) for seed in found["success" if row.success else "returns"]])
    scores = 100.0 * scores if row.success else scores
    mean, error, chance, verdict = scores.mean(), standard_error(scores), "", []
    if by_chance is not None:
        # Of one seed, the standard error is that of its episodes.
        error = standard_error(np.ravel(found["returns"]))
        both = np.hypot(error, standard_error(by_chance))
        chance = f"{by_chance.mean():.1f} ± {standard_error(by_chance):.1f}"
        verdict.append(mean > by_chance.mean() + 3.0 * both)
    marks = [(scores.mean(), row.reach), (scores.min(), row.worst)]
    verdict += [score >= mark for score, mark in marks if mark is not None]
    wanted = [f">= {row.reach:g}" if row.reach is not None else "", f"worst >= {row.worst:g}" if row.worst else ""]
    wanted += ["above chance by 3 standard errors"] if row.beside_random else []
    reached = ("yes" if all(verdict) else "NO") if verdict else ""
    budget = f"--steps {row.steps} --seeds {row.seeds} --seed 1"
    unit = " %" if row.success else ""
    about = "" if np.isnan(error) else f" ± {error:.1f}"
    return (
        f"| `jaxrl train {row.train} {budget}` | {mean:.1f}{about}{unit} | {scores.min():.1f}{unit} | {chance} "
        f"| {', '.join(filter(None, wanted)) or 'reported'} | {reached} | {found['minutes']:.0f} min |"
    )


def main() -> int:
    """Runs rows; returns 1 if one was stopped."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], help="names of rows, see --list")
    parser.add_argument("--steps", type=int, help="another budget, in environment steps per seed")
    parser.add_argument("--seeds", type=int, help="another number of seeds")
    parser.add_argument("--list", action="store_true", help="print the rows and stop")
    arguments = parser.parse_args()
    if arguments.list:
        for name, row in ROWS.items():
            print(f"{name:24} jaxrl train {row.train} --steps {row.steps} --seeds {row.seeds}")
        return 0
    stopped = False
    lines = []
    for name in arguments.rows:
        row = ROWS[name]
        row = row._replace(steps=arguments.steps or row.steps, seeds=arguments.seeds or row.seeds)
        found = trained(name, row)
        stopped |= found is None
        if found is not None:
            episodes = len(found["returns"][0])
            by_chance = random_returns(row.train.split()[1], episodes) if row.beside_random else None
            lines.append(line(name, row, found, by_chance))
    print(f"Measured on {describe_machine()}\n")
    print("| command | mean ± standard error | worst seed | random actions | reach | reached | training |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(lines))
    return int(stopped)


if __name__ == "__main__":
    raise SystemExit(main())
