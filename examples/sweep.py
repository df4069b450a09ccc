"""Learning rates x seeds in one compiled program: a float hyper-parameter may be a tracer."""

import argparse

import jax
import jax.numpy as jnp

import jaxrl


def main(num_steps: int = 50_000, num_seeds: int = 4) -> jax.Array:
    env, params = jaxrl.make("CartPole-v1")
    spec = jaxrl.spec(env, params)

    def run(key, learning_rate):
        agent = jaxrl.a2c(spec, learning_rate=learning_rate)
        train_key, eval_key = jax.random.split(key)
        state, _ = jaxrl.train(train_key, agent, env, params, num_steps=num_steps, num_envs=16, rollout_length=8)
        return jaxrl.evaluate(eval_key, agent, state.agent, env, params, num_episodes=32).returns

    rates = jnp.array([1e-5, 3e-4, 1e-3, 3e-3])
    keys = jax.random.split(jax.random.key(0), num_seeds)
    over_seeds = jax.vmap(run, in_axes=(0, None))
    returns = jax.jit(jax.vmap(over_seeds, in_axes=(None, 0)))(keys, rates).mean(-1)
    for rate, row in zip(rates, returns, strict=True):
        print(f"learning rate {rate:.0e}: mean {row.mean():6.1f}, worst seed {row.min():6.1f}")
    return returns.mean(-1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-steps", type=int, default=50_000)
    main(parser.parse_args().num_steps)
