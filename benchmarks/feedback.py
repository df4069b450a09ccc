"""Agents that learn from comparisons of segments, beside the same with random answers.

``python -m benchmarks.feedback --row cartpole`` trains ``ppo`` on CartPole-v1 with 200 labels of a teacher that errs in
10% of them, ``--row pendulum`` trains ``sac`` (PEBBLE) on Pendulum-v1 with ``--labels`` of an oracle; ``--teacher``
names another teacher. ``--row spin`` teaches the pendulum to spin, for which there is no reward: a script prefers the
faster segment in 300 comparisons, and the share of the last 100 steps at a speed above 4 is printed; ``--gif FILE``
draws an episode of the first seed. ``--row coach`` and ``--row tamer`` train ``reinforce`` on 1,000 signals about
single decisions, and ``--row judge`` trains ``ppo`` by a judge behind a server that is killed twice (``judged``). Seeds
of ``split(key(--seed), --num-seeds)`` run in one program; greedy evaluation on 128 episodes a seed, by the
environment's reward, which no agent saw. Settings are chosen on ``--seed 0``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxrl
from benchmarks import judged
from jaxrl import feedback
from jaxrl.agents.presets import LOOP
from jaxrl.feedback import verdicts
from jaxrl.networks import MLP
from jaxrl.rollout import reset, rollout
from jaxrl.runs.pictures import draw_episodes, record_episodes
from jaxrl.runs.snapshots import without_replay
from jaxrl.types import Agent, Array, PyTree, Transition


class Row(NamedTuple):
    """A row of the table.

    Attributes:
      recipe, environment: who learns, where, by the preset of both.
      teacher: the default teacher.
      labels: the default number of labels.
      num_steps: environment steps of a seed.
      options: of ``preferences``.
    """

    recipe: str
    environment: str
    teacher: str
    labels: int
    num_steps: int
    options: dict[str, Any]


ROWS = {
    "cartpole": Row("ppo", "CartPole-v1", "mistake", 200, 60_000, {"query_interval": 2_000, "num_gradient_steps": 50}),
    "pendulum": Row(
        "sac", "Pendulum-v1", "oracle", 500, 20_000, {"queries": 50, "query_interval": 1_000, "num_gradient_steps": 100}
    ),
    "spin": Row(
        "sac", "Pendulum-v1", "spin", 300, 12_000, {"queries": 50, "query_interval": 1_000, "num_gradient_steps": 100}
    ),
}

SPEED, LAST = 4.0, 100
"""The pendulum spins where it is faster than this, in rad/s, in the last steps of an episode."""


def prefers_speed(steps: Transition) -> jax.Array:
    """The value of a step to who wants the pendulum to spin: its speed."""
    return jnp.abs(steps.observation[..., 2])


SHOWN = ("labels", "held_out_accuracy", "signals")
"""Metrics that are printed."""

SIGNALS = {"num_steps": 40_000, "num_envs": 8, "rollout_length": 32}
"""The size of ``--row coach`` and ``--row tamer``: a signal on 1 of 20 decisions, 1,000 signals in 20k steps."""


def from_signals(row: str, mistake: float) -> tuple[str, Any, Any, Agent, dict[str, int]]:
    """``reinforce`` with the signals of a trainer, two steps late: title, environment, params, agent and size."""
    env, params = jaxrl.make("CartPole-v1")
    spec = jaxrl.spec(env, params)
    trainer = feedback.trainer(verdicts.balancing, num_signals=1_000, rate=0.05, mistake=mistake, delay=2)
    models = {"coach": feedback.coach(trainer, delay=2), "tamer": feedback.tamer(spec, trainer, delay=2)}
    agent = jaxrl.reinforce(spec, loss=feedback.as_advantage, learning_rate=1e-2, max_grad_norm=0.5)
    title = f"reinforce + {row}, CartPole-v1, 1000 signals, {mistake:.0%} wrong"
    return title, env, params, jaxrl.with_reward(agent, models[row]), SIGNALS


def from_comparisons(row: str, teacher: str | None, labels: int | None) -> tuple[str, Any, Any, Agent, dict[str, int]]:
    """A recipe with the answers of a teacher: title, environment, params, agent and size."""
    recipe, environment, its_teacher, its_labels, num_steps, options = ROWS[row]
    teacher, labels = teacher or its_teacher, labels or its_labels
    env, params = jaxrl.make(environment)
    spec = jaxrl.spec(env, params)
    preset = jaxrl.preset(recipe, environment)
    size = {name: preset.pop(name) for name in LOOP} | {"num_steps": num_steps}
    asked = feedback.teachers.scripted(score=prefers_speed) if teacher == "spin" else teacher
    model = feedback.preferences(spec, teacher=asked, labels=labels, **options)
    if recipe == "ppo":
        preset["num_updates"] = size["num_steps"] // (size["num_envs"] * size["rollout_length"])
        agent = jaxrl.with_reward(jaxrl.ppo(spec, **preset), model)
    else:
        torso = preset.pop("torso")
        preset["torso"] = MLP(torso["hidden"], torso["activation"])
        agent = jaxrl.sac(spec, **preset, reward_model=model)
    return f"{recipe} + preferences, {environment}, {labels} labels of '{teacher}'", env, params, agent, size


def share_of_spinning(key: Array, agent: Agent, state: PyTree, env: Any, params: Any) -> jax.Array:
    """The share of the last steps of 32 episodes at which the pendulum spins, with the greedy policy."""
    reset_key, run_key = jax.random.split(key)
    observation, env_state = reset(reset_key, env, params, 32)
    length = params.max_steps_in_episode
    steps = rollout(run_key, agent, state, env, params, env_state, observation, length, explore=False)[2]
    return (prefers_speed(steps)[-LAST:] > SPEED).mean()


def main(
    row: str,
    teacher: str | None,
    labels: int | None,
    mistake: float,
    num_seeds: int,
    seed: int,
    gif: Path | None = None,
) -> dict[str, np.ndarray]:
    """The mean return, or the share of spinning, and the last metrics of each seed."""
    made = from_comparisons(row, teacher, labels) if row in ROWS else from_signals(row, mistake)
    title, env, params, agent, size = made

    def run(key: jax.Array) -> Any:
        train_key, evaluation_key = jax.random.split(key)
        state, metrics = jaxrl.train(train_key, agent, env, params, **size)
        last = {name.removeprefix("reward_model_"): x[-1] for name, x in metrics.items() if "reward_model" in name}
        acting = without_replay(state.agent)
        if row == "spin":
            return share_of_spinning(evaluation_key, agent, acting, env, params), last, acting
        returns = jaxrl.evaluate(evaluation_key, agent, state.agent, env, params, num_episodes=128).returns
        return returns.mean(), last, acting

    begin = time.perf_counter()
    returns, last, states = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(seed), num_seeds))
    returns, last = jax.tree.map(np.asarray, (returns, last))
    if gif is not None:
        state = jax.tree.map(lambda leaf: leaf[0], states)
        options = {"num_episodes": 1, "max_steps": 200, "explore": False}
        draw_episodes(gif, env, params, record_episodes(jax.random.key(seed), agent, state, env, params, **options))
    ends = ", ".join(f"{name} {value.mean():.3g}" for name, value in last.items() if name in SHOWN)
    print(
        f"{title}, key({seed}): mean {returns.mean():.3f}, worst {returns.min():.3f}; {ends}; "
        f"{time.perf_counter() - begin:.0f} s"
    )
    print("each seed:", " ".join(f"{value:.3f}" for value in returns), flush=True)
    return {"returns": returns, **last}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", choices=(*ROWS, "coach", "tamer", "judge"), default="cartpole")
    parser.add_argument("--teacher", help="a name in jaxrl.feedback.teachers.TEACHERS; 'random' for the control")
    parser.add_argument("--labels", type=int)
    parser.add_argument("--mistake", type=float, default=0.1, help="of a trainer's signals; 0.5 is the control")
    parser.add_argument("--num-seeds", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--gif", type=Path)
    parser.add_argument("--out", help="a folder for the run of --row judge")
    given = vars(parser.parse_args())
    out = given.pop("out")
    if given["row"] == "judge":
        judged.main(given["mistake"], given["num_seeds"], given["seed"], given["labels"], out)
    else:
        main(**given)
