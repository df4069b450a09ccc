"""I2A in TwoBox: the share of held-out levels that are solved, beside PPO and beside I2A with bad models.

    python -m benchmarks.i2a                                  # all rows, one after the other
    python -m benchmarks.i2a i2a ppo --seeds 1                # some of them
    python -m benchmarks.i2a --num-steps 200000 --key 0       # key 0 is the one for tuning

``ppo`` has a torso with as many parameters as I2A's three networks together. ``copy`` imagines that nothing ever
happens (the paper's control), ``untrained`` imagines in a model that never learns. All data of the model is the agent's
own, so each row has the same budget. Seed i of a run is ``split(key(KEY), n)[i]``. Levels are held out
(``held_out=True``); actions are sampled, and greedy.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxrl
from jaxrl.agents.parts.imagination import copy_model
from jaxrl.agents.presets import preset
from jaxrl.networks import Conv
from jaxrl.training.loop import start, train_step
from jaxrl.types import Agent, Spec

EPISODES = 1000
LOOP = ("num_steps", "num_envs", "rollout_length")


def hyperparameters(name: str) -> dict[str, Any]:
    """Those of the preset, without the settings of the loop."""
    return {key: value for key, value in preset(name, "TwoBox").items() if key not in (*LOOP, "torso")}


def make_agent(row: str, spec: Spec, num_updates: int) -> Agent:
    """The agent of a row."""
    if row == "ppo":
        return jaxrl.ppo(spec, **hyperparameters("ppo"), torso=equal_torso(spec), num_updates=num_updates)
    changed: dict[str, Any] = {"copy": {"model": copy_model(spec)}, "untrained": {"model_learning_rate": 0.0}}.get(
        row, {}
    )
    return jaxrl.i2a(spec, **{**hyperparameters("i2a"), **changed}, num_updates=num_updates)


def num_parameters(agent: Agent) -> int:
    """Of all networks of an agent."""
    params = jax.eval_shape(agent.init, jax.random.key(0)).params
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def equal_torso(spec: Spec) -> Conv:
    """A torso with which PPO has at least as many parameters as I2A."""
    wanted = num_parameters(jaxrl.i2a(spec, **hyperparameters("i2a")))
    for width in range(128, 1024, 8):
        torso = Conv(channels=(32,), hidden=(width,))
        if num_parameters(jaxrl.ppo(spec, share_torso=True, torso=torso)) >= wanted:
            return torso
    raise ValueError(f"no torso has {wanted} parameters")


class Outcome(NamedTuple):
    """Of each seed ``[S]``: percent solved with sampled and with greedy actions, returns; metrics and seconds."""

    sampled: np.ndarray
    greedy: np.ndarray
    returns: np.ndarray
    metrics: dict[str, float]
    seconds: float


def measure(row: str, key: int, seeds: int, num_steps: int) -> Outcome:
    """Trains the seeds one after the other, and plays held-out levels."""
    env, params = jaxrl.make("TwoBox")
    settings = preset("i2a", "TwoBox")
    num_envs, length = settings["num_envs"], settings["rollout_length"]
    num_updates = num_steps // (num_envs * length)
    agent = make_agent(row, jaxrl.spec(env, params), num_updates)

    @jax.jit
    def run(key: Any) -> Any:
        step = lambda state, _: train_step(key, agent, env, params, state, length)  # noqa: E731
        return jax.lax.scan(step, start(key, agent, env, params, num_envs), None, length=num_updates)

    @jax.jit
    def play(state: Any) -> Any:
        held_out, played = params.replace(held_out=True), []
        for explore in (True, False):
            played.append(
                jaxrl.evaluate(
                    jax.random.key(1_000_003), agent, state, env, held_out, num_episodes=EPISODES, explore=explore
                )
            )
        return played

    begin, outcomes, metrics = time.perf_counter(), [], {}
    for seed in jax.random.split(jax.random.key(key), seeds):
        state, trained = run(seed)
        sampled, greedy = jax.device_get(play(state.agent))
        # At most -4 without a solution, at least 6 with one.
        solved = [100.0 * (episodes.returns > 0.0).mean() for episodes in (sampled, greedy)]
        outcomes.append((*solved, sampled.returns.mean()))
        metrics = {name: float(value[-10:].mean()) for name, value in trained.items() if value.ndim == 1}
        print(f"  {row}: sampled {solved[0]:.1f} %, greedy {solved[1]:.1f} %, {metrics}", flush=True)
    return Outcome(*map(np.array, zip(*outcomes, strict=True)), metrics, time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rows = ("i2a", "ppo", "copy", "untrained")
    parser.add_argument("rows", nargs="*", choices=(*rows, []), default=list(rows))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--num-steps", type=int, default=1_000_000)
    parser.add_argument("--key", type=int, default=1)
    given = parser.parse_args()
    print("| agent | steps | solved, %, sampled: mean ± standard error | worst | greedy | return | seconds |")
    print("|---|---|---|---|---|---|---|")
    for row in given.rows:
        found = measure(row, given.key, given.seeds, given.num_steps)
        error = found.sampled.std(ddof=1) / np.sqrt(given.seeds) if given.seeds > 1 else float("nan")
        print(
            f"| {row} | {given.num_steps} | {found.sampled.mean():.1f} ± {error:.1f} | {found.sampled.min():.1f} "
            f"| {found.greedy.mean():.1f} | {found.returns.mean():.2f} | {found.seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
