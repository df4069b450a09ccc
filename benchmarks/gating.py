"""Gated residuals against plain ones: PPO with a deep, narrow transformer on CartPole, over learning rates and seeds.

    python -m benchmarks.gating                  # the table of RESULTS.md
    python -m benchmarks.gating --layers 6 --steps 100000

Both have pre-norm layers and the settings of the preset but for the torso, which policy and value share, and the
learning rate. Nothing was tuned for either. All learning rates and seeds of a torso are one vmapped program.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl
from jaxrl.agents.presets import preset
from jaxrl.networks import Transformer

ENVIRONMENT = "CartPole-v1"


def returns(torso: Transformer, learning_rates: tuple[float, ...], num_seeds: int, num_steps: int) -> np.ndarray:
    """Greedy returns at the end, means over 32 episodes: ``[learning rates, seeds]``."""
    env, params = jaxrl.make(ENVIRONMENT)
    settings: dict[str, Any] = {**preset("ppo", ENVIRONMENT), "num_steps": num_steps}
    loop = {name: settings.pop(name) for name in ("num_steps", "num_envs", "rollout_length")}
    num_updates = loop["num_steps"] // (loop["num_envs"] * loop["rollout_length"])
    settings.update(torso=torso, share_torso=True, num_updates=num_updates)

    def run(key: jax.Array, learning_rate: jax.Array) -> jax.Array:
        agent = jaxrl.ppo(jaxrl.spec(env, params), **{**settings, "learning_rate": learning_rate})
        train_key, eval_key = jax.random.split(key)
        state, _ = jaxrl.train(train_key, agent, env, params, **loop)
        return jaxrl.evaluate(eval_key, agent, state.agent, env, params, num_episodes=32).returns.mean()

    keys = jax.random.split(jax.random.key(1), num_seeds)
    over = jax.vmap(jax.vmap(run, in_axes=(0, None)), in_axes=(None, 0))
    return np.asarray(jax.jit(over)(keys, jnp.array(learning_rates)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40_000, help="environment steps per seed")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[1e-3, 3e-3, 1e-2])
    given = parser.parse_args()
    print("| residuals | learning rate | mean ± standard error | worst seed | all seeds | wall time |")
    print("|---|---|---|---|---|---|")
    for name, gated in (("plain", False), ("gated", True)):
        start = time.perf_counter()
        torso = Transformer(num_layers=given.layers, width=given.width, gated=gated)
        table = returns(torso, tuple(given.learning_rates), given.seeds, given.steps)
        seconds = f"{time.perf_counter() - start:.0f} s"
        for learning_rate, row in zip(given.learning_rates, table, strict=True):
            error = row.std(ddof=1) / len(row) ** 0.5
            seeds = " ".join(f"{score:.0f}" for score in row)
            print(f"| {name} | {learning_rate:g} | {row.mean():.0f} ± {error:.0f} | {row.min():.0f} | {seeds} ", end="")
            print(f"| {seconds} |", flush=True)
            seconds = "the same program"


if __name__ == "__main__":
    main()
