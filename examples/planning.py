"""Planning on the pendulum: with the true simulator, then with an ensemble that is learned from what the plans did.

The first agent learns nothing. The second one begins with random actions, fits the ensemble every 50 steps and plans in
it. An episode has 200 steps, so the printed returns are those of its first episodes.
"""

import argparse
from functools import partial

import jax

import jaxrl
from jaxrl import envs, planners


def main(num_steps: int = 1_600, num_episodes: int = 16) -> tuple[float, float, float]:
    pendulum, params = jaxrl.make("Pendulum-v1")
    planner, horizon = partial(planners.cem, num_iterations=3), 20
    options = {"planner": planner, "horizon": horizon, "population": 30}
    memory = planners.sequence_like(jaxrl.spec(pendulum, params).action, horizon)  # the last plan is fed back

    # 1. The true simulator: its state is part of the observation, and its step is the model.
    env = envs.remember(envs.expose_state(pendulum), memory)
    true = jaxrl.mpc(jaxrl.spec(env, params), model=envs.simulator(pendulum, params), **options)
    evaluate = partial(jaxrl.evaluate, env=env, params=params, num_episodes=num_episodes)
    returns = jax.jit(lambda key: evaluate(key, agent=true, state=true.init(key)).returns)(jax.random.key(0))
    print(f"true simulator: {returns.mean():.0f}")

    # 2. A learned ensemble: the environment shows no state, and its reward is learned too.
    env = envs.remember(pendulum, memory)
    learned = jaxrl.pets(jaxrl.spec(env, params), num_elites=3, **options)
    train = partial(jaxrl.train, agent=learned, env=env, params=params, num_envs=1, rollout_length=50)
    _, metrics = jax.jit(partial(train, num_steps=num_steps))(jax.random.key(1))
    ended = metrics["episodes"] > 0
    each = metrics["episode_return"][ended]
    for number, value in enumerate(each):
        print(f"learned ensemble, episode {number + 1}, after {200 * (number + 1)} steps: {value:.0f}")
    return float(returns.mean()), float(each[0]), float(each[-3:].mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-steps", type=int, default=1_600)
    parser.add_argument("--num-episodes", type=int, default=16, help="of the true simulator's evaluation")
    main(**vars(parser.parse_args()))
