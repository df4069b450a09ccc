"""Value expansion and short model rollouts on Pendulum-v1: steps until a return is reached, beside model-free controls.

    python -m benchmarks.value_expansion mbve       # 5k steps: mbve beside td3 with the same settings
    python -m benchmarks.value_expansion steve      # 5k steps in a corrupted model: steve, mbve and td3
    python -m benchmarks.value_expansion mbpo       # 3k steps: mbpo beside sac with as many gradient steps

Every ``--interval`` steps the greedy policies of all seeds play 256 episodes from the start states of ``key(0)``. Seeds
are those of ``split(key(1), 8)``, trained in one program; tuning was done on ``--tune``, those of ``split(key(0), n)``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

import jaxrl
from jaxrl import networks
from jaxrl.agents.parts import expansion
from jaxrl.agents.presets import LOOP
from jaxrl.training.loop import start

ENVIRONMENT = "Pendulum-v1"
NUM_STARTS = 256
REACH = -160.0
OBSERVATION_NOISE, REWARD_NOISE = (0.5, 0.5, 4.0), 4.0
"""Standard deviations of what is added to predictions of the corrupted model, a quarter of the ranges."""


def corrupted(targets: Callable[..., Any]) -> Callable[..., Any]:
    """An expansion in a model with noise on its predictions, drawn anew for each member, sample and step."""

    def expand(key: Any, sample: Any, bootstrap: Any, world: expansion.World) -> Any:
        def step(member: Any, key: Any, observation: Any, action: Any) -> Any:
            after = world.step(member, key, observation, action)
            keys = jax.random.split(jax.random.fold_in(key, 1))
            noise = np.array([OBSERVATION_NOISE]) * jax.random.normal(keys[0], observation.shape)
            reward = after.reward + REWARD_NOISE * jax.random.normal(keys[1], after.reward.shape)
            return after._replace(observation=after.observation + noise, reward=reward)

        return targets(key, sample, bootstrap, world._replace(step=step))

    return expand


def agent_of(name: str, options: dict[str, Any]) -> tuple[Any, dict[str, int]]:
    """A row's agent and the sizes of its loop."""
    env, params = jaxrl.make(ENVIRONMENT)
    spec = jaxrl.spec(env, params)
    recipe = {"corrupted": "mbve", "sac as often": "sac"}.get(name, name.split()[0])
    settings = jaxrl.preset("mbpo" if name == "sac as often" else recipe, ENVIRONMENT)
    if name == "sac as often":
        known = {"batch_size", "gamma", "learning_starts", "num_gradient_steps", "torso", *LOOP}
        settings = {key: value for key, value in settings.items() if key in known}
    settings |= options
    loop = {size: settings.pop(size) for size in LOOP}
    if "torso" in settings:
        settings["torso"] = networks.MLP(**{key: value for key, value in settings["torso"].items() if key != "name"})
    if name == "mbve corrupted":
        settings["targets"] = corrupted(expansion.td_k)
    if name == "steve corrupted":
        critics = settings.pop("num_critics", 4)
        settings = {"num_members": 4, **settings, "base": partial(jaxrl.td3, num_critics=critics)}
        return jaxrl.mbve(spec, **settings, targets=corrupted(expansion.inverse_variance)), loop
    return getattr(jaxrl, recipe)(spec, **settings), loop


def curve(name: str, keys: Any, num_steps: int, interval: int, options: dict[str, Any]) -> np.ndarray:
    """Returns of each check and seed, ``[num_steps / interval, seeds]``, printed as they come."""
    env, params = jaxrl.make(ENVIRONMENT)
    agent, loop = agent_of(name, options)
    begin = jax.jit(jax.vmap(lambda key: start(key, agent, env, params, loop["num_envs"])))

    @partial(jax.jit, donate_argnums=1)
    def go_on(keys: Any, states: Any) -> Any:
        def of_seed(key: Any, state: Any) -> Any:
            sizes = {"num_steps": interval, "rollout_length": loop["rollout_length"]}
            return jaxrl.train(key, agent, env, params, state=state, **sizes)

        states, metrics = jax.vmap(of_seed)(keys, states)
        score = partial(jaxrl.evaluate, jax.random.key(0), agent, env=env, params=params, num_episodes=NUM_STARTS)
        return states, jax.vmap(lambda state: score(state=state.agent).returns.mean())(states), metrics

    states, rows, clock = begin(keys), [], time.perf_counter()
    for number in range(num_steps // interval):
        states, returns, metrics = go_on(keys, states)
        rows.append(np.asarray(returns))
        held_out = np.nanmean(metrics["model_held_out"]) if "model_held_out" in metrics else np.nan
        print(
            f"{name}, {(number + 1) * interval} steps: {summary(rows[-1])}; held-out {held_out:.2f}, "
            f"{time.perf_counter() - clock:.0f} s",
            flush=True,
        )
    return np.stack(rows)


def summary(returns: np.ndarray) -> str:
    """Mean, standard error, worst, and each seed."""
    error = returns.std(ddof=1) / np.sqrt(len(returns)) if len(returns) > 1 else 0.0
    each = " ".join(f"{value:.0f}" for value in returns)
    return f"{returns.mean():.1f} ± {error:.1f}, worst {returns.min():.1f} ({each})"


def reached(rows: np.ndarray, interval: int) -> int | None:
    """The steps at the first check whose mean over seeds is at least ``REACH``."""
    above = np.flatnonzero(rows.mean(axis=1) >= REACH)
    return int(above[0] + 1) * interval if len(above) else None


ROWS = {
    "mbve": (("mbve", "td3"), 5_000),
    "steve": (("steve corrupted", "mbve corrupted", "td3"), 5_000),
    "mbpo": (("mbpo", "sac as often"), 3_000),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=list(ROWS))
    parser.add_argument("--only", nargs="+", help="which of the row's agents")
    parser.add_argument("--seeds", type=int, default=8, help="how many of the 8 seeds")
    parser.add_argument("--tune", action="store_true", help="seeds of key(0)")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--interval", type=int, default=500)
    parser.add_argument("--option", nargs="*", default=[], help="name=value, a Python literal, for all agents")
    given = parser.parse_args()
    names, steps = ROWS[given.row]
    chosen = {name: eval(value) for name, value in (option.split("=") for option in given.option)}
    seeds = jax.random.split(jax.random.key(0), given.seeds) if given.tune else jax.random.split(jax.random.key(1), 8)
    for agent_name in given.only or names:
        found = curve(agent_name, seeds[: given.seeds], given.steps or steps, given.interval, chosen)
        print(f"{agent_name}: {REACH:.0f} reached at {reached(found, given.interval)}; last {summary(found[-1])}")
