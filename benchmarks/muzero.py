"""MuZero on CartPole-v1 beside the same agent with dynamics that never learn.

    python -m benchmarks.muzero                     # 50k steps, 5 seeds of split(key(1), 5)
    python -m benchmarks.muzero --only learned --members 3 4

The preset, for both; greedy evaluation on 128 episodes per seed, one seed after the other. The control keeps the
dynamics and the reward head that ``init`` drew, so that its searches plan in a random model, while representation,
policy and value learn. Connect four is a run of the command line, which ``python -m benchmarks.alphazero connect_four
RUN`` measures.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import numpy as np
import optax

import jaxrl
from benchmarks.learning import describe_machine
from jaxrl.agents.presets import LOOP

ENVIRONMENT = "CartPole-v1"
FROZEN = ("transition", "reward_head")


def frozen(make: Any = optax.adamw) -> Any:
    """An optimizer that does not change the dynamics."""

    def labels(params: Any) -> Any:
        return {"params": {name: "frozen" if name in FROZEN else "learned" for name in params["params"]}}

    return lambda rate: optax.multi_transform({"learned": make(rate), "frozen": optax.set_to_zero()}, labels)


AGENTS: dict[str, dict[str, Any]] = {"learned": {}, "frozen": {"optimizer": frozen()}}
"""By name: what differs from the preset."""


def measure(name: str, num_steps: int, num_seeds: int, seed: int, members: list[int]) -> None:
    """Prints a line for each member of ``split(key(seed), num_seeds)``, and a row of a Markdown table."""
    env, params = jaxrl.make(ENVIRONMENT)
    preset = jaxrl.preset("muzero", ENVIRONMENT)
    size = {setting: preset.pop(setting) for setting in LOOP} | {"num_steps": num_steps}
    preset["num_updates"] = num_steps // (size["num_envs"] * size["rollout_length"])
    preset["torso"] = jaxrl.networks.MLP(**{k: v for k, v in preset["torso"].items() if k != "name"})
    preset["search"] = preset["search"]["name"]
    agent = jaxrl.muzero(jaxrl.spec(env, params), **preset, **AGENTS[name])

    @jax.jit
    def run(key: Any) -> Any:
        train_key, evaluation_key = jax.random.split(key)
        state, _ = jaxrl.train(train_key, agent, env, params, **size)
        return jaxrl.evaluate(evaluation_key, agent, state.agent, env, params, num_episodes=128).returns

    keys, means = jax.random.split(jax.random.key(seed), num_seeds), []
    begin = time.perf_counter()
    for member in members:
        returns = np.asarray(run(keys[member]))
        means.append(returns.mean())
        seconds = time.perf_counter() - begin
        worst = f"worst episode {returns.min():.0f}"
        print(f"{name}, seed {member}: {means[-1]:.1f}, {worst}, at {seconds:.0f} s", flush=True)
    error = np.std(means, ddof=1) / np.sqrt(len(means)) if len(means) > 1 else 0.0
    each = ", ".join(f"{value:.1f}" for value in means)
    print(f"| {name} dynamics | {np.mean(means):.1f} ± {error:.1f} | {min(means):.1f} | {each} | {seconds:.0f} s |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-steps", type=int, default=50_000)
    parser.add_argument("--num-seeds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1, help="0 is what it was tuned on")
    parser.add_argument("--members", type=int, nargs="+", help="which of the seeds, from 0; all by default")
    parser.add_argument("--only", choices=AGENTS)
    given = parser.parse_args()
    print(f"Measured on {describe_machine()}: {ENVIRONMENT}, {given.num_steps:,} steps\n")
    print("| agent | mean ± standard error over seeds | worst seed | each seed | wall time |")
    print("|---|---|---|---|---|", flush=True)
    for name in [given.only] if given.only else AGENTS:
        members = list(range(given.num_seeds)) if given.members is None else given.members
        measure(name, given.num_steps, given.num_seeds, given.seed, members)


if __name__ == "__main__":
    main()
