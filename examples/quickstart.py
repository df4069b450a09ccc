"""Eight seeds of PPO in one jitted call."""

import argparse

import jax

import jaxrl


def main(num_steps: int = 100_000, num_seeds: int = 8) -> float:
    env, params = jaxrl.make("CartPole-v1")
    agent = jaxrl.ppo(jaxrl.spec(env, params), learning_rate=1e-3, gamma=0.98, gae_lambda=0.9, entropy_coef=0.0)

    def run(key):
        train_key, eval_key = jax.random.split(key)
        state, metrics = jaxrl.train(train_key, agent, env, params, num_steps=num_steps, num_envs=8, rollout_length=64)
        return jaxrl.evaluate(eval_key, agent, state.agent, env, params).returns

    returns = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), num_seeds))
    for seed, mean in enumerate(returns.mean(axis=1)):
        print(f"seed {seed}: mean return {mean:.1f} over {returns.shape[1]} episodes")
    return float(returns.mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-steps", type=int, default=100_000)
    main(parser.parse_args().num_steps)
