"""Agents that learn from comparisons of segments, beside the same with random answers.

``python -m benchmarks.feedback --row cartpole`` trains ``ppo`` on CartPole-v1 with 200 labels of a teacher that errs in
10% of them, ``--row pendulum`` trains ``sac`` (PEBBLE) on Pendulum-v1 with ``--labels`` of an oracle; ``--teacher``
names another teacher. ``--row coach`` and ``--row tamer`` train ``reinforce`` on 1,000 signals about single
decisions. Seeds of ``split(key(--seed), --num-seeds)`` run in one program; greedy evaluation on 128 episodes a seed, by
the environment's reward, which no agent saw. Settings are chosen on ``--seed 0``.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxrl
from jaxrl import feedback
from jaxrl.agents.presets import LOOP
from jaxrl.feedback import verdicts
from jaxrl.networks import MLP
from jaxrl.types import Agent


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
}


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
    model = feedback.preferences(spec, teacher=teacher, labels=labels, **options)
    if recipe == "ppo":
        preset["num_updates"] = size["num_steps"] // (size["num_envs"] * size["rollout_length"])
        agent = jaxrl.with_reward(jaxrl.ppo(spec, **preset), model)
    else:
        torso = preset.pop("torso")
        preset["torso"] = MLP(torso["hidden"], torso["activation"])
        agent = jaxrl.sac(spec, **preset, reward_model=model)
    return f"{recipe} + preferences, {environment}, {labels} labels of '{teacher}'", env, params, agent, size


def main(
    row: str, teacher: str | None, labels: int | None, mistake: float, num_seeds: int, seed: int
) -> dict[str, np.ndarray]:
    """The mean return and the last metrics of each seed."""
    made = from_comparisons(row, teacher, labels) if row in ROWS else from_signals(row, mistake)
    title, env, params, agent, size = made

    def run(key: jax.Array) -> Any:
        train_key, evaluation_key = jax.random.split(key)
        state, metrics = jaxrl.train(train_key, agent, env, params, **size)
        returns = jaxrl.evaluate(evaluation_key, agent, state.agent, env, params, num_episodes=128).returns
        last = {name.removeprefix("reward_model_"): x[-1] for name, x in metrics.items() if "reward_model" in name}
        return returns.mean(), last

    begin = time.perf_counter()
    found = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(seed), num_seeds))
    returns, last = jax.tree.map(np.asarray, found)
    ends = ", ".join(f"{name} {value.mean():.3g}" for name, value in last.items() if name in SHOWN)
    print(
        f"{title}, key({seed}): mean {returns.mean():.1f}, worst {returns.min():.1f}; {ends}; "
        f"{time.perf_counter() - begin:.0f} s"
    )
    print("each seed:", " ".join(f"{value:.1f}" for value in returns), flush=True)
    return {"returns": returns, **last}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", choices=(*ROWS, "coach", "tamer"), default="cartpole")
    parser.add_argument("--teacher", help="a name in jaxrl.feedback.teachers.TEACHERS; 'random' for the control")
    parser.add_argument("--labels", type=int)
    parser.add_argument("--mistake", type=float, default=0.1, help="of a trainer's signals; 0.5 is the control")
    parser.add_argument("--num-seeds", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    main(arguments.row, arguments.teacher, arguments.labels, arguments.mistake, arguments.num_seeds, arguments.seed)
