"""Agents that learn from comparisons of segments, beside the same with random answers.

``python -m benchmarks.feedback --row cartpole`` trains ``ppo`` on CartPole-v1 with 200 labels of a teacher that errs in
10% of them, ``--row pendulum`` trains ``sac`` (PEBBLE) on Pendulum-v1 with ``--labels`` of an oracle; ``--teacher``
names another teacher. Seeds of ``split(key(--seed), --num-seeds)`` run in one program; greedy evaluation on 128
episodes a seed, by the environment's reward, which no agent saw. Settings were chosen on ``--seed 0``.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxrl
from jaxrl.agents.presets import LOOP
from jaxrl.feedback import preferences


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


def main(row: str, teacher: str | None, labels: int | None, num_seeds: int, seed: int) -> dict[str, np.ndarray]:
    """The mean return and the last metrics of each seed."""
    recipe, environment, its_teacher, its_labels, num_steps, options = ROWS[row]
    teacher, labels = teacher or its_teacher, labels or its_labels
    env, params = jaxrl.make(environment)
    spec = jaxrl.spec(env, params)
    preset = jaxrl.preset(recipe, environment)
    size = {name: preset.pop(name) for name in LOOP} | {"num_steps": num_steps}
    model = preferences(spec, teacher=teacher, labels=labels, **options)
    if recipe == "ppo":
        preset["num_updates"] = size["num_steps"] // (size["num_envs"] * size["rollout_length"])
        agent = jaxrl.with_reward(jaxrl.ppo(spec, **preset), model)
    else:
        agent = jaxrl.sac(spec, **preset, reward_model=model)

    def run(key: jax.Array) -> Any:
        train_key, evaluation_key = jax.random.split(key)
        state, metrics = jaxrl.train(train_key, agent, env, params, **size)
        returns = jaxrl.evaluate(evaluation_key, agent, state.agent, env, params, num_episodes=128).returns
        last = {name.removeprefix("reward_model_"): x[-1] for name, x in metrics.items() if "reward_model" in name}
        return returns.mean(), last

    begin = time.perf_counter()
    found = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(seed), num_seeds))
    returns, last = jax.tree.map(np.asarray, found)
    print(
        f"{recipe} + preferences, {environment}, {labels} labels of '{teacher}', key({seed}): mean "
        f"{returns.mean():.1f}, worst {returns.min():.1f}, held-out accuracy {last['held_out_accuracy'].mean():.3f}, "
        f"{time.perf_counter() - begin:.0f} s"
    )
    print("each seed:", " ".join(f"{value:.1f}" for value in returns), flush=True)
    return {"returns": returns, **last}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", choices=ROWS, default="cartpole")
    parser.add_argument("--teacher", help="a name in jaxrl.feedback.teachers.TEACHERS; 'random' for the control")
    parser.add_argument("--labels", type=int)
    parser.add_argument("--num-seeds", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    main(arguments.row, arguments.teacher, arguments.labels, arguments.num_seeds, arguments.seed)
