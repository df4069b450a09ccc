"""PPO with its environments split over all devices; on a single CPU, JAX simulates eight of them."""

import argparse
import os

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")  # read when jax is imported

import jax
import numpy as np

import jaxrl
from jaxrl.training import make_mesh, parallel


def main(num_steps: int = 100_000) -> float:
    env, params = jaxrl.make("CartPole-v1")
    agent = jaxrl.ppo(jaxrl.spec(env, params), learning_rate=1e-3, gamma=0.98, gae_lambda=0.9, entropy_coef=0.0)
    mesh = make_mesh()
    num_envs = 2 * mesh.size

    @jax.jit
    def run(key):
        return parallel.train(
            key, agent, env, params, mesh=mesh, num_steps=num_steps, num_envs=num_envs, rollout_length=512 // num_envs
        )

    train_key, eval_key = jax.random.split(jax.random.key(0))
    state, metrics = run(train_key)
    pieces = [shard.data.shape[0] for shard in state.observation.addressable_shards]
    print(f"{num_envs} environments on {mesh.size} devices: {pieces}")
    copies = [np.asarray(shard.data) for shard in jax.tree.leaves(state.agent.params)[0].addressable_shards]
    print(f"copies of the parameters that differ from the first: {sum((x != copies[0]).any() for x in copies)}")
    returns = jaxrl.evaluate(eval_key, agent, jax.device_put(state.agent, jax.devices()[0]), env, params).returns
    print(f"mean return {returns.mean():.1f} over {returns.shape[0]} episodes")
    return float(returns.mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-steps", type=int, default=100_000)
    main(parser.parse_args().num_steps)
