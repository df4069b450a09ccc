"""A custom environment with illegal actions: it follows gymnax's protocol, without base class or registration.

The agent walks along a corridor of 8 cells. It can't go left from the left end, and reaching the right end pays 1. The
mask marks the legal actions, and no recipe takes any other.
"""

import argparse
from typing import NamedTuple

import gymnax.environments.spaces as spaces
import jax
import jax.numpy as jnp

import jaxrl

LEFT, RIGHT, JUMP = 0, 1, 2


class Params(NamedTuple):
    max_steps_in_episode: int = 40


class State(NamedTuple):
    cell: jax.Array
    time: jax.Array


class Corridor:
    """Move left, move right, or jump two cells, which is legal on even cells only. Each step costs 0.05."""

    default_params = Params()
    length = 8

    def action_space(self, params):
        return spaces.Discrete(3)

    def observe(self, state):
        legal = jnp.stack([state.cell > 0, jnp.ones((), bool), state.cell % 2 == 0])
        return jaxrl.Observation(features=jax.nn.one_hot(state.cell, self.length), action_mask=legal)

    def reset(self, key, params):
        state = State(jax.random.randint(key, (), 0, 3), jnp.zeros((), jnp.int32))
        return self.observe(state), state

    def step(self, key, state, action, params):
        move = jnp.where(action == LEFT, -1, jnp.where(action == RIGHT, 1, 2))
        cell = jnp.clip(state.cell + move, 0, self.length - 1)
        after = State(cell, state.time + 1)
        terminated = cell == self.length - 1
        truncated = after.time >= params.max_steps_in_episode
        reward = terminated - 0.05
        fresh_observation, fresh = self.reset(key, params)
        final_observation, done = self.observe(after), terminated | truncated
        choose = lambda a, b: jax.tree.map(lambda x, y: jnp.where(done, x, y), a, b)  # noqa: E731
        observation, state = choose(fresh_observation, final_observation), choose(fresh, after)
        return observation, state, reward, terminated, truncated, {"final_observation": final_observation}


def main(num_steps: int = 40_000) -> float:
    env, params = Corridor(), Corridor.default_params
    jaxrl.envs.check(env, params)
    agent = jaxrl.a2c(jaxrl.spec(env, params), learning_rate=3e-3)
    train_key, eval_key = jax.random.split(jax.random.key(0))
    state, _ = jax.jit(
        lambda key: jaxrl.train(key, agent, env, params, num_steps=num_steps, num_envs=16, rollout_length=8)
    )(train_key)
    episodes = jaxrl.evaluate(eval_key, agent, state.agent, env, params)
    print(f"mean return {episodes.returns.mean():.3f}, mean length {episodes.lengths.mean():.2f}")
    return float(episodes.returns.mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-steps", type=int, default=40_000)
    main(parser.parse_args().num_steps)
