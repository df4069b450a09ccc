"""Planning on Pendulum-v1: with the true model, with a learned one, and what cloning makes of the plans.

    python -m benchmarks.planning mpc       # CEM in the true simulator, horizons 25 and 15, and plans per second

Episodes start from the same 256 states as in the other rows of Pendulum-v1, those of ``key(0)``.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any

import jax
import numpy as np

import jaxrl
from jaxrl import envs, planners
from jaxrl.rollout import reset

ENVIRONMENT = "Pendulum-v1"
NUM_STARTS = 256


def planning_environment(horizon: int) -> tuple[Any, Any, Any]:
    """``(env, params, model)``: the pendulum with its state in the observation and plans of a horizon fed back."""
    pendulum, params = jaxrl.make(ENVIRONMENT)
    exposed = envs.expose_state(pendulum)
    action = jaxrl.spec(exposed, params).action
    env = envs.remember(exposed, planners.sequence_like(action, horizon))
    return env, params, envs.simulator(pendulum, params)


def mpc(horizons: tuple[int, ...] = (25, 15), population: int = 100) -> dict[int, np.ndarray]:
    """Returns ``[256]`` of each horizon."""
    found = {}
    for horizon in horizons:
        env, params, model = planning_environment(horizon)
        agent = jaxrl.mpc(jaxrl.spec(env, params), model=model, horizon=horizon, population=population)
        state = agent.init(jax.random.key(0))
        run = jax.jit(partial(jaxrl.evaluate, agent=agent, env=env, params=params, num_episodes=NUM_STARTS))
        run = run.lower(jax.random.key(0), state=state).compile()
        begin = time.perf_counter()
        found[horizon] = np.asarray(run(jax.random.key(0), state=state).returns)
        seconds = time.perf_counter() - begin
        print(
            f"mpc, horizon {horizon}: mean {found[horizon].mean():.1f}, worst {found[horizon].min():.1f}, "
            f"{NUM_STARTS * 200 / seconds:.0f} plans/s ({seconds:.0f} s)",
            flush=True,
        )
    return found


def speed(horizon: int = 25, population: int = 100, repeats: int = 20) -> None:
    """Plans per second of each planner, of one state and of 256 at once."""
    env, params, model = planning_environment(horizon)
    action = jaxrl.spec(env, params).action
    for name, planner in (("cem", planners.cem), ("mppi", planners.mppi), ("shooting", planners.random_shooting)):
        for batch in (1, NUM_STARTS):
            _, env_state = reset(jax.random.key(0), env, params, batch)
            plan = jax.jit(
                lambda key, state, planner=planner: planner(
                    key, (), model, state, space=action, horizon=horizon, population=population
                )
            )
            jax.block_until_ready(plan(jax.random.key(0), env_state))
            begin = time.perf_counter()
            for number in range(repeats):
                found = plan(jax.random.key(number), env_state)
            jax.block_until_ready(found)
            seconds = (time.perf_counter() - begin) / repeats
            print(f"{name:9} {batch:4} states: {1e3 * seconds:.1f} ms, {batch / seconds:.0f} plans/s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", choices=["mpc", "speed"])
    for row in parser.parse_args().rows:
        {"mpc": mpc, "speed": speed}[row]()
