"""Planning on Pendulum-v1: with the true model, with a learned one, and what cloning makes of the plans.

    python -m benchmarks.planning mpc       # CEM in the true simulator, horizons 25 and 15
    python -m benchmarks.planning speed     # plans per second of each planner in the true simulator
    python -m benchmarks.planning pets      # 2k steps, 8 seeds, beside the same agent with shuffled transitions
    python -m benchmarks.planning mbmf      # 5k steps, 8 seeds, beside cloning alone and td3

Episodes of mpc start from the same 256 states as in the other rows of Pendulum-v1, those of ``key(0)``. Tuning was done
on ``key(0)``; seeds are those of ``split(key(1), 8)``.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl
from jaxrl import envs, planners
from jaxrl.agents.parts.plans import PLANNERS
from jaxrl.agents.presets import LOOP
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


def pets(members: tuple[int, ...] = tuple(range(8)), num_steps: int = 2_000, num_episodes: int = 16) -> None:
    """Prints the mean return of each seed, as it is and with each outcome put to another step of its rollout.

    Each seed has starts of its own, the same in both rows.
    """
    preset = jaxrl.preset("pets", ENVIRONMENT)
    size = {name: preset.pop(name) for name in LOOP} | {"num_steps": num_steps}
    env, params, _ = planning_environment(preset.get("horizon", 25))
    agent = jaxrl.pets(jaxrl.spec(env, params), **with_planner(preset))

    @jax.jit
    def run(key: Any, is_shuffled: Any) -> Any:
        train_key, evaluation_key = jax.random.split(key)

        def update(key: Any, state: Any, trajectory: Any) -> Any:
            order = jax.random.permutation(jax.random.fold_in(key, 1), size["rollout_length"])
            order = jnp.where(is_shuffled, order, jnp.arange(size["rollout_length"]))
            reward, after = jax.tree.map(lambda x: x[order], (trajectory.reward, trajectory.next_observation))
            return agent.update(key, state, trajectory._replace(reward=reward, next_observation=after))

        state, metrics = jaxrl.train(train_key, agent._replace(update=update), env, params, **size)
        returns = jaxrl.evaluate(evaluation_key, agent, state.agent, env, params, num_episodes=num_episodes).returns
        return returns.mean(), metrics["model_held_out"][-1]

    found: dict[str, list[float]] = {"pets": [], "pets, shuffled": []}
    for member in members:
        for name, is_shuffled in zip(found, (False, True), strict=True):
            begin = time.perf_counter()
            score, held_out = run(jax.random.split(jax.random.key(1), 8)[member], is_shuffled)
            found[name].append(float(score))
            print(
                f"{name}, seed {member}: {float(score):.1f}, held-out negative log-likelihood {float(held_out):.1f}, "
                f"{time.perf_counter() - begin:.0f} s",
                flush=True,
            )
    for name, returns in found.items():
        report(name, np.array(returns))


def mbmf(members: tuple[int, ...] = tuple(range(8)), num_steps: int = 5_000) -> None:
    """Prints the mean return of each seed: of mbmf, of cloning alone (the planner acts to the end), and of td3."""
    preset = jaxrl.preset("mbmf", ENVIRONMENT)
    size = {name: preset.pop(name) for name in LOOP} | {"num_steps": num_steps}
    planning, params, _ = planning_environment(preset.get("horizon", 20))
    plain, _ = jaxrl.make(ENVIRONMENT)
    options, spec = with_planner(preset), jaxrl.spec(planning, params)
    alone = {"planned_steps": num_steps - preset["random_steps"], "cloned_steps": 0}
    model_free = jaxrl.preset("td3", ENVIRONMENT)
    td3_size = {name: model_free.pop(name) for name in LOOP} | {"num_steps": num_steps}
    rows: tuple[tuple[str, Any, Any, dict[str, Any]], ...] = (
        ("mbmf", jaxrl.mbmf(spec, **options), planning, size),
        ("cloning alone", jaxrl.mbmf(spec, **{**options, **alone}), planning, size),
        ("td3", jaxrl.td3(jaxrl.spec(plain, params), **model_free), plain, td3_size),
    )

    def run(agent: Any, env: Any, loop: dict[str, Any], key: Any) -> Any:
        state, _ = jaxrl.train(key, agent, env, params, **loop)
        evaluated = jaxrl.evaluate(jax.random.key(0), agent, state.agent, env, params, num_episodes=NUM_STARTS)
        return evaluated.returns.mean()

    for name, agent, env, loop in rows:
        program, returns = jax.jit(partial(run, agent, env, loop)), []
        for member in members:
            begin = time.perf_counter()
            returns.append(float(program(jax.random.split(jax.random.key(1), 8)[member])))
            print(f"{name}, seed {member}: {returns[-1]:.1f}, {time.perf_counter() - begin:.0f} s", flush=True)
        report(name, np.array(returns))


def with_planner(preset: dict[str, Any]) -> dict[str, Any]:
    """A preset's options with the planner that it names."""
    chosen = dict(preset["planner"])
    return {**preset, "planner": partial(PLANNERS[chosen.pop("name")], **chosen)}


def report(name: str, returns: np.ndarray) -> None:
    """Prints mean, standard error and worst of seeds."""
    error = returns.std(ddof=1) / np.sqrt(len(returns)) if len(returns) > 1 else 0.0
    each = " ".join(f"{value:.1f}" for value in returns)
    print(f"{name}: {returns.mean():.1f} ± {error:.1f}, worst {returns.min():.1f}; each seed: {each}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=["mpc", "speed", "pets", "mbmf"])
    parser.add_argument("--members", type=int, nargs="+", default=list(range(8)), help="which of the 8 seeds")
    arguments = parser.parse_args()
    if arguments.row == "mpc":
        mpc()
    elif arguments.row == "speed":
        speed()
    else:
        {"pets": pets, "mbmf": mbmf}[arguments.row](tuple(arguments.members))
