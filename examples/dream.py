"""Training in a dream: an ensemble learns CartPole from random actions, and PPO trains in the ensemble alone.

``models.as_env`` makes an environment of any learned model, so any recipe trains in it. What PPO learned there is
measured in the real CartPole, which it has never seen.
"""

import argparse

import jax
import jax.numpy as jnp

import jaxrl
from jaxrl import envs, models
from jaxrl.agents import players
from jaxrl.rollout import reset, rollout


def main(num_real: int = 5_000, num_dreamt: int = 80_000, num_envs: int = 8) -> dict[str, float]:
    env, params = jaxrl.make("CartPole-v1")
    spec = jaxrl.spec(env, params)
    data_key, fit_key, train_key, eval_key = jax.random.split(jax.random.key(0), 4)

    # 1. Random actions in the real environment.
    random = players.random_player(spec)

    @jax.jit
    def collect(key):
        reset_key, key = jax.random.split(key)
        first, env_state = reset(reset_key, env, params, num_envs)
        steps = (env_state, first, num_real // num_envs)
        _, _, trajectory = rollout(key, random, random.init(key, num_envs), env, params, *steps)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trajectory)

    data = collect(data_key)

    # 2. A model of what happens. Each step alive pays 1; when the task ends is learned.
    dynamics = models.ensemble(
        spec, num_members=3, hidden=(64, 64), reward=lambda *_: jnp.float32(1.0), termination="learned"
    )
    learned, fitted = jax.jit(
        lambda key, data: dynamics.fit(key, dynamics.init(key), data, max_epochs=60, batch_size=128)
    )(fit_key, data)
    print(f"held-out loss of the model: {fitted.held_out[:, 0].mean():.1f} before, {fitted.best.mean():.1f} after")

    # 3. PPO in the model, whose episodes begin where real ones do.
    def start(key, learned):
        reset_key, member_key = jax.random.split(key)
        state = dynamics.start(member_key, learned, env.reset(reset_key, params)[0])
        return state.observation, state

    dream = models.as_env(dynamics.model(), learned, start, spec.action, max_steps=500)
    agent = jaxrl.ppo(envs.spec(dream), learning_rate=1e-3, gamma=0.98, gae_lambda=0.9, entropy_coef=0.0)
    state, _ = jax.jit(
        lambda key, learned: jaxrl.train(
            key,
            agent,
            dream,
            dream.default_params._replace(model=learned),
            num_steps=num_dreamt,
            num_envs=8,
            rollout_length=64,
        )
    )(train_key, learned)

    # 4. In the real environment.
    play = jax.jit(lambda key, state: jaxrl.evaluate(key, agent, state, env, params).returns.mean())
    returns = {
        "random actions": float(1.0 / data.terminated.mean()),
        "PPO before the dream": float(play(eval_key, agent.init(train_key))),
        "PPO after the dream": float(play(eval_key, state.agent)),
    }
    for name, value in returns.items():
        print(f"{name}: {value:.0f} steps in the real environment")
    return returns


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-real", type=int, default=5_000, help="real steps, all of them random")
    parser.add_argument("--num-dreamt", type=int, default=80_000, help="steps of PPO in the model")
    arguments = parser.parse_args()
    main(arguments.num_real, arguments.num_dreamt)
