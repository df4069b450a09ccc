"""A custom training loop made of the library's parts: rollout, values, advantages, and a noisy gradient step.

The noise on the gradient is something that no recipe offers. The whole loop stays jittable.
"""

import argparse

import jax
import jax.numpy as jnp
import optax

import jaxrl
from jaxrl import losses, rollout
from jaxrl.agents.parts import actor_critic, gradients
from jaxrl.ops import returns


def main(num_updates: int = 200, noise: float = 1e-3) -> tuple[float, float]:
    env, params = jaxrl.make("CartPole-v1")
    spec = jaxrl.spec(env, params)
    agent = jaxrl.ppo(spec)  # acts, and makes the first state; the update is our own
    network = actor_critic.make_network(spec)
    optimizer = optax.chain(optax.add_noise(noise, 0.0, jax.random.key(0)), optax.adam(1e-3))

    def loss(params, batch, key):
        outputs, samples = actor_critic.forward(network, params, batch, key)
        return losses.ppo(outputs, actor_critic.normalize_advantage(samples), losses.Settings())

    step = gradients.gradient_step(optimizer, loss)

    def update(carry, key):
        state, learned, env_state, observation = carry
        rollout_key, *epoch_keys = jax.random.split(key, 5)
        state = state._replace(params=learned.params)
        env_state, observation, trajectory = rollout.rollout(
            rollout_key, agent, state, env, params, env_state, observation, 64
        )
        v_tm1, v_t = actor_critic.values(network, learned.params, trajectory)
        discount_t = returns.bootstrap_discount(trajectory.discount, 0.98)
        continue_t = returns.continues(trajectory.terminated, trajectory.truncated)
        advantage = returns.gae(trajectory.reward, discount_t, v_tm1, v_t, continue_t, 0.9)
        batch = actor_critic.make_batch(trajectory, advantage, advantage + v_tm1, v_tm1)
        for epoch_key in epoch_keys:
            learned, _ = step(learned, batch, epoch_key)
        episodes = (trajectory.terminated | trajectory.truncated).sum()
        return (state, learned, env_state, observation), trajectory.reward.sum() / jnp.maximum(episodes, 1)

    @jax.jit
    def run(key):
        init_key, reset_key, run_key = jax.random.split(key, 3)
        observation, env_state = rollout.reset(reset_key, env, params, 16)
        state = agent.init(init_key, 16)
        learned = gradients.Learned(state.params, optimizer.init(state.params))
        carry = (state, learned, env_state, observation)
        return jax.lax.scan(update, carry, jax.random.split(run_key, num_updates))[1]

    steps_per_episode = run(jax.random.key(0))
    first, last = float(steps_per_episode[:10].mean()), float(steps_per_episode[-10:].mean())
    print(f"steps an episode: {first:.0f} in the first 10 updates, {last:.0f} in the last 10")
    return first, last


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-updates", type=int, default=200)
    main(parser.parse_args().num_updates)
