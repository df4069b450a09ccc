"""CartPole from comparisons: nobody tells PPO the reward; a teacher says which of two clips is better.

A tenth of the teacher's answers are wrong. The control is the same agent with a teacher who answers at random.
"""

import argparse

import jax
import numpy as np

import jaxrl
from jaxrl.feedback import preferences


def main(teacher: str = "mistake", labels: int = 60, num_steps: int = 30_000) -> tuple[float, float]:
    env, params = jaxrl.make("CartPole-v1")
    spec = jaxrl.spec(env, params)
    reward_model = preferences(
        spec, teacher=teacher, labels=labels, queries=20, query_interval=2_000, num_gradient_steps=50
    )
    ppo = jaxrl.ppo(spec, learning_rate=1e-3, gamma=0.98, gae_lambda=0.8, entropy_coef=0.0, num_epochs=10)
    agent = jaxrl.with_reward(ppo, reward_model)

    @jax.jit
    def run(key):
        return jaxrl.train(key, agent, env, params, num_steps=num_steps, num_envs=8, rollout_length=32)[1]

    metrics = jax.tree.map(np.asarray, run(jax.random.key(0)))
    for update in np.linspace(0, len(metrics["episodes"]) - 1, 8).astype(int)[1:]:
        recent = metrics["episode_return"][max(0, update - 15) : update + 1]
        print(
            f"{(update + 1) * 256:6} steps, {metrics['reward_model_labels'][update]:3} labels: true return "
            f"{np.nanmean(recent):6.1f}, learned reward {metrics['learned_reward'][update]:5.2f} a step, held-out "
            f"accuracy {metrics['reward_model_held_out_accuracy'][update]:.2f}"
        )
    accuracy = metrics["reward_model_held_out_accuracy"][-1]
    return float(np.nanmean(metrics["episode_return"][-20:])), float(accuracy)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="mistake", help="oracle, mistake, stochastic, ...; random is the control")
    parser.add_argument("--labels", type=int, default=60)
    arguments = parser.parse_args()
    main(arguments.teacher, arguments.labels)
