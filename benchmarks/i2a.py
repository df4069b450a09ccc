"""I2A in TwoBox: the share of held-out levels that are solved, beside PPO and beside I2A with other models.

    python -m benchmarks.i2a --out i2a.jsonl                  # all rows; called again, it goes on where it was stopped
    python -m benchmarks.i2a i2a ppo --seeds 1                # some of them
    python -m benchmarks.i2a --num-steps 200000 --key 0       # key 0 is the one for tuning
    python -m benchmarks.i2a --num-pulls 3                    # easier levels

``ppo`` has a torso with as many parameters as I2A's three networks together. ``copy`` imagines that nothing ever
happens (the paper's control), ``untrained`` imagines in a model that never learns, ``true`` in the rules themselves:
what a perfect model is worth. ``random`` learns a model and no policy: how good the model is. All data of the model is
the agent's own, so each row has the same budget. Seed i of a run is ``split(key(KEY), n)[i]``. Levels are held out
(``held_out=True``); actions are sampled, and greedy. Of a learned model the table shows, in held-out levels that the
agent plays, how many next images are right in each pixel, among all and among those in which a box moves, and the mean
absolute error of rewards other than -0.1.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl
from jaxrl import rollout
from jaxrl.agents.parts.imagination import copy_model, learned_model
from jaxrl.agents.presets import preset
from jaxrl.envs.foresight.two_box import BOX, CELLS, TwoBoxState
from jaxrl.networks import Conv
from jaxrl.training.loop import start, train_step
from jaxrl.types import Agent, Array, Model, Simulated, Spec

ROWS = ("i2a", "ppo", "copy", "untrained", "true", "random")
EPISODES = 500
LOOP = ("num_steps", "num_envs", "rollout_length")


def true_model(env: Any, params: Any) -> Model:
    """The rules of TwoBox as a ``Model`` whose state is the image."""

    def step(_: Any, key: Array, image: Array, action: Array) -> Simulated:
        bits = jnp.uint32(1) << jnp.arange(CELLS, dtype=jnp.uint32)
        planes = image[1:-1, 1:-1].reshape(CELLS, -1).T > 0.5
        packed = jnp.sum(jnp.where(planes, bits, 0), axis=1, dtype=jnp.uint32)
        seen, _, reward, terminated, _ = env.step_env(key, TwoBoxState(jnp.int32(0), *packed), action, params)
        return Simulated(seen, seen, reward, 1.0 - terminated, jnp.bool_(False))

    return Model(lambda key: (), step)


def hyperparameters(name: str) -> dict[str, Any]:
    """Those of the preset, without the settings of the loop."""
    return {key: value for key, value in preset(name, "TwoBox").items() if key not in (*LOOP, "torso")}


def make_agent(row: str, env: Any, params: Any, num_updates: int) -> Agent:
    """The agent of a row."""
    spec = jaxrl.spec(env, params)
    if row == "ppo":
        return jaxrl.ppo(spec, **hyperparameters("ppo"), torso=equal_torso(spec), num_updates=num_updates)
    changed: dict[str, Any] = {
        "i2a": {},
        "copy": {"model": copy_model(spec)},
        "untrained": {"model_learning_rate": 0.0},
        "true": {"model": true_model(env, params)},
        "random": {"learning_rate": 0.0},
    }[row]
    return jaxrl.i2a(spec, **{**hyperparameters("i2a"), **changed}, num_updates=num_updates)


def num_parameters(agent: Agent) -> int:
    """Of all networks of an agent."""
    params = jax.eval_shape(agent.init, jax.random.key(0)).params
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def equal_torso(spec: Spec) -> Conv:
    """A torso with which PPO has at least as many parameters as I2A."""
    wanted = num_parameters(jaxrl.i2a(spec, **hyperparameters("i2a"), num_updates=1))
    for width in range(128, 1024, 8):
        torso = Conv(channels=(32,), hidden=(width,))
        if num_parameters(jaxrl.ppo(spec, share_torso=True, torso=torso)) >= wanted:
            return torso
    raise ValueError(f"no torso has {wanted} parameters")


def model_accuracy(agent: Agent, state: Any, env: Any, params: Any) -> dict[str, Array]:
    """Of the learned model, in what the agent does in levels of ``params``: percent of images, error of rewards."""
    settings = hyperparameters("i2a")
    model, _ = learned_model(
        jaxrl.spec(env, params), settings.get("model_channels", 32), settings.get("model_hidden", 64)
    )
    key = jax.random.key(2_000_003)
    observation, env_state = rollout.reset(key, env, params, 64)
    played = rollout.rollout(key, agent, state, env, params, env_state, observation, 50)[2]
    step = jax.vmap(jax.vmap(model.step, (None, None, 0, 0)), (None, None, 0, 0))
    found = step(state.params.model, key, played.observation, played.action)
    right = ((found.observation > 0.5) == (played.next_observation > 0.5)).all((2, 3, 4))
    pushed = (played.observation != played.next_observation)[..., BOX].any((2, 3))
    event = jnp.abs(played.reward + 0.1) > 0.5
    return {
        "images": 100.0 * right.mean(),
        "pushes": 100.0 * (right & pushed).sum() / pushed.sum(),
        "rewards": (jnp.abs(found.reward - played.reward) * event).sum() / event.sum(),
    }


def measure(row: str, key: int, seeds: int, num_steps: int, num_pulls: int, done: list[dict[str, Any]]) -> Any:
    """Trains the seeds that are not done yet, one after the other, and yields what held-out levels say of each."""
    env, params = jaxrl.make("TwoBox", num_pulls=num_pulls)
    settings = preset("i2a", "TwoBox")
    num_envs, length = settings["num_envs"], settings["rollout_length"]
    num_updates = num_steps // (num_envs * length)
    agent, held_out = make_agent(row, env, params, num_updates), params.replace(held_out=True)

    @jax.jit
    def run(key: Any) -> Any:
        step = lambda state, _: train_step(key, agent, env, params, state, length)  # noqa: E731
        return jax.lax.scan(step, start(key, agent, env, params, num_envs), None, length=num_updates)

    @jax.jit
    def play(state: Any) -> Any:
        judged = jax.random.key(1_000_003)
        played = [
            jaxrl.evaluate(judged, agent, state, env, held_out, num_episodes=EPISODES, explore=explore)
            for explore in (True, False)
        ]
        return played, model_accuracy(agent, state, env, held_out) if row in ("i2a", "random") else {}

    for seed in range(seeds):
        run_of = {
            "row": row, "key": key, "seeds": seeds, "seed": seed, "num_steps": num_steps, "num_pulls": num_pulls
        }  # fmt: skip
        finished = [x for x in done if run_of.items() <= x.items()]
        if finished:
            yield finished[0]
            continue
        begin = time.perf_counter()
        state, _ = run(jax.random.split(jax.random.key(key), seeds)[seed])
        (sampled, greedy), accuracy = jax.device_get(play(state.agent))
        # At most -4 without a solution, at least 6 with one.
        solved = {
            name: float(100.0 * (played.returns > 0.0).mean())
            for name, played in (("sampled", sampled), ("greedy", greedy))
        }
        accuracy = {name: float(x) for name, x in accuracy.items()}
        seconds = time.perf_counter() - begin
        yield {**run_of, **solved, **accuracy, "return": float(sampled.returns.mean()), "seconds": seconds}


def line(found: list[dict[str, Any]]) -> str:
    """A row of the table."""
    sampled = np.array([x["sampled"] for x in found])
    mean = lambda name: float(np.mean([x[name] for x in found]))  # noqa: E731
    error = sampled.std(ddof=1) / np.sqrt(len(found)) if len(found) > 1 else float("nan")
    model = "- | - | -"
    if "images" in found[0]:
        model = f"{mean('images'):.1f} | {mean('pushes'):.1f} | {mean('rewards'):.2f}"
    return (
        f"| {found[0]['row']} | {found[0]['num_steps']} | {sampled.mean():.1f} ± {error:.1f} | {sampled.min():.1f} "
        f"| {mean('greedy'):.1f} | {mean('return'):.2f} | {model} | {mean('seconds'):.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=(*ROWS, []), default=list(ROWS))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--num-steps", type=int, default=preset("i2a", "TwoBox")["num_steps"])
    parser.add_argument("--num-pulls", type=int, default=12, help="of the levels; the more, the longer the solutions")
    parser.add_argument("--key", type=int, default=1)
    parser.add_argument(
        "--out", type=Path, help="a line of JSON for each seed, read again when the command is repeated"
    )
    given = parser.parse_args()
    done = []
    if given.out is not None and given.out.exists():
        done = [json.loads(text) for text in given.out.read_text().splitlines()]
    print("| agent | steps | solved, %, sampled: mean ± standard error | worst | greedy | return", end=" ")
    print("| images, % | pushes, % | rewards, error | seconds a seed |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in given.rows:
        found = []
        for outcome in measure(row, given.key, given.seeds, given.num_steps, given.num_pulls, done):
            found.append(outcome)
            if given.out is not None and outcome not in done:
                with given.out.open("a") as file:
                    file.write(json.dumps(outcome) + "\n")
        print(line(found), flush=True)


if __name__ == "__main__":
    main()
