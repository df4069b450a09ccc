"""A training loop of one's own, made of the library's parts: rollout, estimate, gradients, apply_gradients.

It adds noise to the gradient, which no recipe offers, and stays jittable.
"""

import argparse

import jax
import jax.numpy as jnp

import jaxrl
from jaxrl import rollout
from jaxrl.agents import on_policy


def main(num_updates: int = 200, noise: float = 1e-3) -> tuple[float, float]:
    env, params = jaxrl.make("CartPole-v1")
    agent = jaxrl.ppo(jaxrl.spec(env, params), learning_rate=1e-3, gamma=0.98, gae_lambda=0.9)
    config = on_policy.config_of(agent)

    def noisy(key, grads):
        leaves, tree = jax.tree.flatten(grads)
        keys = jax.random.split(key, len(leaves))
        return jax.tree.unflatten(
            tree, [g + noise * jax.random.normal(k, g.shape) for k, g in zip(keys, leaves, strict=True)]
        )

    def update(carry, key):
        state, env_state, observation = carry
        rollout_key, noise_key = jax.random.split(key)
        env_state, observation, trajectory = rollout.rollout(
            rollout_key, agent, state, env, params, env_state, observation, 64
        )
        trajectory = on_policy.as_seen(config, state, trajectory)
        batch = on_policy.make_batch(trajectory, on_policy.estimate(config, state.params, trajectory))
        learned, optimizer_state = state.params, state.optimizer_state
        for epoch_key in jax.random.split(noise_key, 4):
            grads, _ = on_policy.gradients(config, learned, batch, config.settings(state.updates))
            learned, optimizer_state = on_policy.apply_gradients(
                config, learned, optimizer_state, noisy(epoch_key, grads)
            )
        state = state._replace(params=learned, optimizer_state=optimizer_state, updates=state.updates + 1)
        episodes = (trajectory.terminated | trajectory.truncated).sum()
        return (state, env_state, observation), trajectory.reward.sum() / jnp.maximum(episodes, 1)

    @jax.jit
    def run(key):
        init_key, reset_key, run_key = jax.random.split(key, 3)
        observation, env_state = rollout.reset(reset_key, env, params, 16)
        carry = (agent.init(init_key, 16), env_state, observation)
        return jax.lax.scan(update, carry, jax.random.split(run_key, num_updates))[1]

    steps_per_episode = run(jax.random.key(0))
    first, last = float(steps_per_episode[:10].mean()), float(steps_per_episode[-10:].mean())
    print(f"steps an episode: {first:.0f} in the first 10 updates, {last:.0f} in the last 10")
    return first, last


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-updates", type=int, default=200)
    main(parser.parse_args().num_updates)
