"""Planning on Pendulum-v1: in the true model, in a learned one, and as a teacher of a policy.

    python -m benchmarks.planning mpc       # CEM in the true simulator, horizons 25 and 15
    python -m benchmarks.planning speed     # plans per second of each planner in the true simulator, and of pets
    python -m benchmarks.planning phases    # what phases that are not due cost eight vmapped seeds
    python -m benchmarks.planning pets      # 2k steps, 8 seeds, beside the same agent with shuffled transitions
    python -m benchmarks.planning mbmf      # 5k steps, 8 seeds, beside cloning alone and td3

Episodes start from the same 256 states as in the other rows of Pendulum-v1, those of ``key(0)``. Tuning was done on
``key(0)``; seeds are those of ``split(key(1), 8)``.
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
from jaxrl.rollout import reset, rollout

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
    learned_speed()


def learned_speed(repeats: int = 20) -> None:
    """Plans per second of pets with its preset, of one state and of 256 at once."""
    preset = jaxrl.preset("pets", ENVIRONMENT)
    options = with_planner({name: value for name, value in preset.items() if name not in LOOP})
    env, params, _ = planning_environment(options["horizon"])
    agent = jaxrl.pets(jaxrl.spec(env, params), **{**options, "learning_starts": 0})
    state = agent.init(jax.random.key(0))
    for batch in (1, NUM_STARTS):
        observation, _ = reset(jax.random.key(0), env, params, batch)
        times = max(1, repeats // batch)
        seconds, cpu = timed(lambda key, seen: agent.act(key, state, seen), observation, times=times)
        print(f"pets      {batch:4} states: {batch / seconds:.0f} plans/s, {batch / cpu:.0f} a CPU second", flush=True)


def phases(num_seeds: int = 8) -> None:
    """Seconds of acting and of an update of eight vmapped seeds of mbmf, by phase, beside trpo alone."""
    preset = jaxrl.preset("mbmf", ENVIRONMENT)
    size = {name: preset.pop(name) for name in LOOP}
    env, params, _ = planning_environment(preset.get("horizon", 20))
    plain, _ = jaxrl.make(ENVIRONMENT)
    options = with_planner(preset) | {"dyna": 0}
    own = {"planner", "horizon", "population", "num_members", "random_steps", "planned_steps", "cloned_steps"}
    own |= {"dyna", "dyna_updates"}
    tuned = sum(options[name] for name in ("random_steps", "planned_steps", "cloned_steps"))
    model_free = jaxrl.trpo(jaxrl.spec(plain, params), **{n: v for n, v in options.items() if n not in own})
    agents = (
        ("trpo alone", model_free, plain, 0),
        ("mbmf, fine-tuning", jaxrl.mbmf(jaxrl.spec(env, params), **options), env, tuned),
        ("mbmf, planning", jaxrl.mbmf(jaxrl.spec(env, params), **options), env, options["random_steps"]),
    )
    keys = jax.random.split(jax.random.key(0), num_seeds)
    for name, agent, within, steps in agents:
        state = jax.jit(jax.vmap(agent.init))(keys)
        if hasattr(state, "steps"):
            state = state._replace(steps=jnp.full_like(state.steps, steps))
        observation, env_state = reset(jax.random.key(0), within, params, 1)

        def roll(
            keys: Any, state: Any, agent: Any = agent, env: Any = within, seen: Any = (env_state, observation)
        ) -> Any:
            one = lambda key, state: rollout(key, agent, state, env, params, *seen, size["rollout_length"])[2]  # noqa: E731
            return jax.vmap(one)(keys, state)

        trajectory = jax.jit(roll)(keys, state)
        acting, _ = timed(roll, state, key=keys)
        update = lambda keys, state, agent=agent: jax.vmap(agent.update)(keys, state, trajectory)  # noqa: E731, B023
        learning, _ = timed(update, state, key=keys)
        print(f"{name}: rollout {1e3 * acting:.0f} ms, update {1e3 * learning:.0f} ms", flush=True)


def timed(function: Any, *inputs: Any, key: Any = None, times: int = 5) -> tuple[float, float]:
    """Wall seconds and CPU seconds of a call, the least of some."""
    program = jax.jit(function)
    given = (jax.random.key(0) if key is None else key, *inputs)
    jax.block_until_ready(program(*given))
    found = []
    for _ in range(times):
        begin = time.perf_counter(), time.process_time()
        jax.block_until_ready(program(*given))
        found.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    return min(wall for wall, _ in found), min(cpu for _, cpu in found)


def pets(members: tuple[int, ...], rows: tuple[str, ...] = ("pets", "shuffled"), num_starts: int = NUM_STARTS) -> None:
    """Prints the mean return of each seed, with the data as they are and with outcomes shuffled within a rollout."""
    preset = jaxrl.preset("pets", ENVIRONMENT)
    size = {name: preset.pop(name) for name in LOOP}
    env, params, _ = planning_environment(preset.get("horizon", 25))
    agent = jaxrl.pets(jaxrl.spec(env, params), **with_planner(preset))

    @jax.jit
    def run(key: Any, is_shuffled: Any) -> Any:
        def update(key: Any, state: Any, trajectory: Any) -> Any:
            order = jax.random.permutation(jax.random.fold_in(key, 1), size["rollout_length"])
            order = jnp.where(is_shuffled, order, jnp.arange(size["rollout_length"]))
            reward, after = jax.tree.map(lambda x: x[order], (trajectory.reward, trajectory.next_observation))
            return agent.update(key, state, trajectory._replace(reward=reward, next_observation=after))

        state, metrics = jaxrl.train(key, agent._replace(update=update), env, params, **size)
        found = jaxrl.evaluate(jax.random.key(0), agent, state.agent, env, params, num_episodes=num_starts)
        return found.returns, metrics["model_held_out"][-1]

    for name in rows:
        means = []
        for member in members:
            begin = time.perf_counter()
            returns, held_out = run(jax.random.split(jax.random.key(1), 8)[member], name == "shuffled")
            means.append(float(returns.mean()))
            print(
                f"{name}, seed {member}: {means[-1]:.1f}, worst start {float(returns.min()):.1f}, held-out negative "
                f"log-likelihood {float(held_out):.1f}, {time.perf_counter() - begin:.0f} s",
                flush=True,
            )
        report(name, np.array(means))


def mbmf(members: tuple[int, ...], rows: tuple[str, ...] = ("mbmf", "cloning", "td3")) -> None:
    """Prints the mean return of each seed: of mbmf, of cloning alone (the planner acts to the end), and of td3."""
    preset = jaxrl.preset("mbmf", ENVIRONMENT)
    size = {name: preset.pop(name) for name in LOOP}
    planning, params, _ = planning_environment(preset.get("horizon", 20))
    plain, _ = jaxrl.make(ENVIRONMENT)
    options, spec = with_planner(preset), jaxrl.spec(planning, params)
    alone = {"planned_steps": size["num_steps"] - preset["random_steps"], "cloned_steps": 0, "dyna": 0}
    model_free = jaxrl.preset("td3", ENVIRONMENT)
    torso = {name: value for name, value in model_free["torso"].items() if name != "name"}
    model_free["torso"] = jaxrl.networks.MLP(**torso)
    td3_size = {name: model_free.pop(name) for name in LOOP} | {"num_steps": size["num_steps"]}
    agents: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "mbmf": (jaxrl.mbmf(spec, **options), planning, size),
        "cloning": (jaxrl.mbmf(spec, **{**options, **alone}), planning, size),
        "td3": (jaxrl.td3(jaxrl.spec(plain, params), **model_free), plain, td3_size),
    }

    def run(agent: Any, env: Any, loop: dict[str, Any], key: Any) -> Any:
        state, _ = jaxrl.train(key, agent, env, params, **loop)
        return jaxrl.evaluate(jax.random.key(0), agent, state.agent, env, params, num_episodes=NUM_STARTS).returns

    for name in rows:
        program, means = jax.jit(partial(run, *agents[name])), []
        for member in members:
            begin = time.perf_counter()
            returns = program(jax.random.split(jax.random.key(1), 8)[member])
            means.append(float(returns.mean()))
            seconds = time.perf_counter() - begin
            print(
                f"{name}, seed {member}: {means[-1]:.1f}, worst start {float(returns.min()):.1f}, {seconds:.0f} s",
                flush=True,
            )
        report(name, np.array(means))


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
    parser.add_argument("row", choices=["mpc", "speed", "phases", "pets", "mbmf"])
    parser.add_argument("--members", type=int, nargs="+", default=list(range(8)), help="which of the 8 seeds")
    parser.add_argument("--only", nargs="+", help="which agents of a row")
    parser.add_argument("--starts", type=int, default=NUM_STARTS, help="of pets, whose evaluation plans at each step")
    arguments = parser.parse_args()
    chosen = {} if arguments.only is None else {"rows": tuple(arguments.only)}
    if arguments.row == "pets":
        pets(tuple(arguments.members), num_starts=arguments.starts, **chosen)
    elif arguments.row == "mbmf":
        mbmf(tuple(arguments.members), **chosen)
    else:
        {"mpc": mpc, "speed": speed, "phases": phases}[arguments.row]()
