"""Hindsight experience replay: the same DQN with and without it on bit flipping, and a plot of both.

The reward is -1 until all bits are right. Hindsight replays episodes as if the state they reached had been the goal.
"""

import argparse
from pathlib import Path

import jax
import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

import jaxrl
from jaxrl import replay


def train(num_bits: int, num_steps: int, num_seeds: int, make_replay) -> np.ndarray:
    """Share of finished episodes that reached their goal, ``[num_seeds, 20 parts of the run]``."""
    env, params = jaxrl.make("BitFlipping", num_bits=num_bits)
    agent = jaxrl.dqn(
        jaxrl.spec(env, params),
        replay=make_replay(env),
        gamma=0.98,
        learning_rate=1e-3,
        tau=0.05,
        target_interval=1,
        num_gradient_steps=4,
        epsilon_end=0.1,
    )

    def run(key):
        return jaxrl.train(key, agent, env, params, num_steps=num_steps, num_envs=16, rollout_length=4)[1]

    metrics = jax.tree.map(np.asarray, jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), num_seeds)))
    # An episode that fails pays -1 a step for all its steps; one that succeeds ends, and its last step pays 0.
    episodes = metrics["episodes"]
    successes = np.nan_to_num((metrics["episode_return"] + metrics["episode_length"]) * episodes)
    parts = [np.array_split(x, 20, axis=1) for x in (successes, episodes)]
    return np.stack([s.sum(1) / np.maximum(e.sum(1), 1) for s, e in zip(*parts, strict=True)], axis=1)


def main(num_bits: int = 15, num_steps: int = 100_000, num_seeds: int = 2, out: str | None = None) -> dict[str, float]:
    replays = {
        "with hindsight": lambda env: replay.hindsight(env.reward_fn, env.terminated_fn),
        "without": lambda env: replay.uniform,
    }
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    last = {}
    for name, make_replay in replays.items():
        success = train(num_bits, num_steps, num_seeds, make_replay)
        steps = (np.arange(20) + 1) * num_steps / 20
        (line,) = axes.plot(steps, success.mean(0), label=name)
        axes.plot(steps, success.T, color=line.get_color(), alpha=0.3, linewidth=0.8)
        last[name] = float(success[:, -1].mean())
        print(f"{name}: {last[name]:.0%} of the last episodes reach the goal, exploring")
    axes.set(xlabel="environment steps", ylabel="episodes that reach the goal", ylim=(-0.02, 1.02))
    axes.set_title(f"DQN, bit flipping, {num_bits} bits, {num_seeds} seeds")
    axes.legend()
    if out is not None:
        figure.savefig(Path(out), dpi=120)
        print(f"drawn to {out}")
    plt.close(figure)
    return last


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-bits", type=int, default=15)
    parser.add_argument("--num-steps", type=int, default=100_000)
    parser.add_argument("--num-seeds", type=int, default=2)
    parser.add_argument("--out", default="hindsight.png")
    arguments = parser.parse_args()
    main(arguments.num_bits, arguments.num_steps, arguments.num_seeds, arguments.out)
