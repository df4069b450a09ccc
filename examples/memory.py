"""A task that needs memory: the T-maze shows a sign at its start, which decides the right turn at its end.

An MLP sees one step at a time and can only guess. ``envs.remember`` feeds the state of a GRU back to it.
"""

import argparse

import jax

import jaxrl
from jaxrl import envs, networks


def success(env, params, torso, num_steps: int, num_seeds: int) -> float:
    """Share of right turns of greedy policies after training."""
    agent = jaxrl.ppo(jaxrl.spec(env, params), torso=torso, learning_rate=3e-3, gae_lambda=1.0)

    def run(key):
        train_key, eval_key = jax.random.split(key)
        state, _ = jaxrl.train(train_key, agent, env, params, num_steps=num_steps, num_envs=16, rollout_length=64)
        return jaxrl.evaluate(eval_key, agent, state.agent, env, params).returns > 0.0

    return float(jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), num_seeds)).mean())


def main(length: int = 6, num_steps: int = 60_000, num_seeds: int = 2) -> dict[str, float]:
    maze, params = jaxrl.make("TMaze", length=length)
    gru = networks.GRU(size=32)
    agents = {
        "MLP": (maze, networks.MLP()),
        "GRU": (envs.remember(maze, networks.memory_of(gru)), gru),
    }
    right = {}
    for name, (env, torso) in agents.items():
        right[name] = success(env, params, torso, num_steps, num_seeds)
        print(f"{name}: {right[name]:.0%} of the turns are right")
    return right


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=6)
    parser.add_argument("--num-steps", type=int, default=60_000)
    parser.add_argument("--num-seeds", type=int, default=2)
    arguments = parser.parse_args()
    main(arguments.length, arguments.num_steps, arguments.num_seeds)
