"""A callback inside the scan: it adds a metric, and stops training when the last episodes are good enough."""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl


def main(num_steps: int = 200_000, threshold: float = 475.0) -> int:
    env, params = jaxrl.make("CartPole-v1")
    agent = jaxrl.ppo(jaxrl.spec(env, params), learning_rate=1e-3, gamma=0.98, gae_lambda=0.9, entropy_coef=0.0)

    def watch(state, metrics):
        norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(state.agent.params)))
        solved = (metrics["episodes"] > 0) & (metrics["episode_return"] >= threshold)
        return {**metrics, "parameter_norm": norm}, solved

    train = jax.jit(
        lambda key: jaxrl.train(
            key, agent, env, params, num_steps=num_steps, num_envs=8, rollout_length=64, on_update=watch
        )
    )
    state, metrics = train(jax.random.key(0))
    updates = int(state.updates)
    last = np.asarray(metrics["parameter_norm"])[updates - 1]
    print(f"stopped after {updates} updates = {updates * 8 * 64} steps; norm of the parameters {last:.2f}")
    return updates


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-steps", type=int, default=200_000)
    main(parser.parse_args().num_steps)
