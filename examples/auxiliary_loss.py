"""A custom auxiliary loss in PPO: predict the next observation, without editing a file of the library.

The head is a Flax module on the actor's features, the loss a function, and ``weighted`` adds it to PPO's.
"""

import argparse

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import jaxrl
from jaxrl import losses


def predict_next(outputs, batch, settings):
    """``mean |f(s, a) - s'|^2``: one prediction for each action, the one of the action taken is scored."""
    target = batch.transition.next_observation
    guesses = outputs.heads["next"].reshape(target.shape[0], -1, target.shape[1])  # [N, A, D]
    taken = jax.nn.one_hot(batch.raw_action, guesses.shape[1])
    guess = jnp.einsum("na,nad->nd", taken, guesses)
    error = batch.mean(((guess - target) ** 2).sum(-1))
    return error, {"prediction_error": error}


def main(num_steps: int = 100_000) -> tuple[float, float]:
    env, params = jaxrl.make("CartPole-v1")
    spec = jaxrl.spec(env, params)
    size = spec.action.num_actions * spec.observation.shape[0]
    agent = jaxrl.ppo(
        spec,
        heads={"next": nn.Dense(size)},
        loss=losses.weighted((1.0, losses.ppo), (0.5, predict_next)),
        learning_rate=1e-3,
        gamma=0.98,
        gae_lambda=0.9,
        entropy_coef=0.0,
    )
    train = jax.jit(
        lambda key: jaxrl.train(key, agent, env, params, num_steps=num_steps, num_envs=8, rollout_length=64)[1]
    )
    metrics = jax.tree.map(np.asarray, train(jax.random.key(0)))
    fifth = max(1, len(metrics["loss"]) // 5)
    for part in range(0, len(metrics["loss"]), fifth):
        window = slice(part, part + fifth)
        mean_return = np.nanmean(metrics["episode_return"][window])
        error = metrics["prediction_error"][window].mean()
        print(f"updates {part:4d}+: return {mean_return:6.1f}, prediction error {error:.4f}")
    return float(metrics["prediction_error"][0]), float(error)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-steps", type=int, default=100_000)
    main(parser.parse_args().num_steps)
