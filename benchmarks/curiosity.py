"""DQN with random network distillation on MountainCar-v0, beside the same agent without it.

``python -m benchmarks.curiosity``: 120k steps, 8 seeds of ``split(key(--seed), 8)`` in one program, greedy evaluation
on 128 episodes a seed. The reward is -1 a step, so an agent that never saw the flag has nothing to learn from.
"""

from __future__ import annotations

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl
from jaxrl.agents.presets import LOOP
from jaxrl.feedback import rnd
from jaxrl.networks import MLP

ENVIRONMENT = "MountainCar-v0"


def main(
    num_steps: int = 120_000, num_seeds: int = 8, seed: int = 1, bonus_coef: float = 30.0
) -> dict[str, np.ndarray]:
    """Mean returns of each seed, with and without the bonus."""
    env, params = jaxrl.make(ENVIRONMENT)
    spec = jaxrl.spec(env, params)
    preset = jaxrl.preset("dqn", ENVIRONMENT)
    size = {name: preset.pop(name) for name in LOOP} | {"num_steps": num_steps}
    preset["num_updates"] = num_steps // (size["num_envs"] * size["rollout_length"])
    curious = rnd(spec, bonus_coef=bonus_coef, torso=MLP(hidden=(64, 64)))
    found = {}
    for name, model in (("with RND", curious), ("without", None)):
        agent = jaxrl.dqn(spec, **preset, reward_model=model)

        def run(key, agent=agent):
            train_key, evaluation_key = jax.random.split(key)
            state, metrics = jaxrl.train(train_key, agent, env, params, **size)
            flags = jnp.nansum(jnp.where(metrics["episode_return"] > -200.0, metrics["episodes"], 0))
            returns = jaxrl.evaluate(evaluation_key, agent, state.agent, env, params, num_episodes=128).returns
            return returns.mean(), flags

        begin = time.perf_counter()
        returns, flags = jax.block_until_ready(
            jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(seed), num_seeds))
        )
        found[name] = np.asarray(returns)
        error = found[name].std(ddof=1) / np.sqrt(num_seeds) if num_seeds > 1 else 0.0
        print(
            f"{name:9} {found[name].mean():7.1f} ± {error:.1f}, worst {found[name].min():.1f}, seeds at the flag in "
            f"training {int((flags > 0).sum())} of {num_seeds}, {time.perf_counter() - begin:.0f} s"
        )
        print("          each seed:", " ".join(f"{value:.1f}" for value in found[name]), flush=True)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-steps", type=int, default=120_000)
    parser.add_argument("--num-seeds", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bonus-coef", type=float, default=30.0)
    arguments = parser.parse_args()
    main(arguments.num_steps, arguments.num_seeds, arguments.seed, arguments.bonus_coef)
