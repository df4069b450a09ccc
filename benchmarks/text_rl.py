"""Language models that learn from the scores of their answers, beside the supervised start that they leave.

``python -m benchmarks.text_rl --row grpo`` trains ``grpo`` on Reverse-6 from a model of 0.8M parameters that saw
``--start-updates`` batches of 64 demonstrations; ``--row rloo`` and ``--row rlhf`` train on the scripted taste of
Vowels-16. Each line is one evaluation, of 512 held-out prompts: greedy answers for right ones, sampled answers for the
mean score and the KL divergence from the reference, in nats a text. Seeds of ``split(key(--seed), --num-seeds)`` run
one after the other; ``--seed 0`` is for choosing settings. ``--only 0 1`` runs some of them.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxrl
from jaxrl import envs, text
from jaxrl.ops import tokens
from jaxrl.types import Array, Text


class Row(NamedTuple):
    """A row of the table.

    Attributes:
      recipe, task: who learns, where.
      start_updates: supervised gradient steps before.
      num_updates: updates of the recipe.
      size: ``num_envs`` and ``rollout_length``.
      options: of the recipe.
    """

    recipe: str
    task: str
    start_updates: int
    num_updates: int
    size: dict[str, int]
    options: dict[str, Any]


GROUPS = {"num_envs": 32, "rollout_length": 8}
ROWS = {
    "grpo": Row("grpo", "Reverse-6", 300, 200, GROUPS, {"learning_rate": 3e-4}),
    "small": Row("grpo", "Reverse-4", 200, 100, {"num_envs": 16, "rollout_length": 8}, {"learning_rate": 5e-4}),
    "rloo": Row("rloo", "Vowels-16", 200, 200, {"num_envs": 64, "rollout_length": 4}, {"learning_rate": 3e-4}),
    "rlhf": Row("rlhf", "Vowels-16", 200, 200, {"num_envs": 256, "rollout_length": 1}, {"learning_rate": 3e-4}),
}
NUM_PROMPTS = 512


def main(arguments: argparse.Namespace) -> list[list[float]]:
    """The evaluations of each seed, in order: right answers, score, KL divergence."""
    row = ROWS[arguments.row]
    start_updates = row.start_updates if arguments.start_updates is None else arguments.start_updates
    num_updates = row.num_updates if arguments.num_updates is None else arguments.num_updates
    options = dict(row.options)
    for name in ("learning_rate", "kl_coef", "num_minibatches", "num_epochs"):
        if getattr(arguments, name) is not None:
            options[name] = getattr(arguments, name)
    task, params = jaxrl.make(row.task)
    held_out, _ = jaxrl.make(row.task, held_out=True)
    recipe = getattr(jaxrl, row.recipe)
    env = envs.repeat(task, row.size["rollout_length"]) if recipe.groups else task
    spec = jaxrl.spec(env, params)
    length = spec.observation.tokens.shape[0] + spec.action.length
    sizes = {"width": arguments.width, "num_layers": arguments.layers, "num_heads": 4, "max_length": length}
    model = text.gpt2(spec.action.num_tokens, **sizes)
    start = text.demonstrations(task, num_batches=start_updates)
    agent = recipe(spec, network=model, start=start, **options)
    begin = jax.jit(lambda key: jaxrl.start(key, agent, env, params, row.size["num_envs"]))
    steps = row.size["num_envs"] * row.size["rollout_length"]
    chunk = min(arguments.chunk, num_updates)
    advance = jax.jit(
        lambda key, state: jaxrl.train(
            key, agent, env, params, num_steps=chunk * steps, rollout_length=row.size["rollout_length"], state=state
        )
    )

    @jax.jit
    def judge(key: Array, agent_state: Any) -> tuple[Array, Array, Array, Array]:
        """The share of full scores of greedy answers; mean and deviation of scores, and KL, of sampled ones."""
        keys = jax.random.split(key, NUM_PROMPTS + 1)
        prompts = jax.vmap(held_out.prompt)(keys[1:])
        greedy, _ = agent.act(keys[0], agent_state, prompts, explore=False)
        sampled, _ = agent.act(keys[0], agent_state, prompts)
        log_prob, reference = (
            text.log_probs(each, model, *prompts, *sampled) for each in (agent_state.policy, agent_state.reference)
        )
        kl = tokens.masked_sum(log_prob - reference, sampled.mask, axis=-1).mean()
        right, scores = (jax.vmap(held_out.score)(prompts, answers) for answers in (greedy, sampled))
        return (right >= 1.0).mean(), scores.mean(), scores.std(), kl

    @jax.jit
    def best_of_8(key: Array, reference: Any) -> Array:
        """The mean score of the best of eight answers of the start, whose KL divergence is log 8 - 7/8 = 1.2 nats."""
        keys = jax.random.split(key, NUM_PROMPTS + 1)
        prompts = jax.vmap(held_out.prompt)(keys[1:])

        def best(prompts: Any, key: Array) -> Array:
            size = {"num_tokens": spec.action.length, "end": spec.action.end}
            made = text.generate(key, reference, model, *prompts, **size)
            return jax.vmap(held_out.score)(prompts, Text(made.tokens, made.mask))

        return jax.lax.map(lambda key: best(prompts, key), jax.random.split(keys[0], 8)).max(axis=0).mean()

    found = []
    keys = jax.random.split(jax.random.key(arguments.seed), arguments.num_seeds)
    count = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(agent.init, keys[0]).reference))
    print(f"{row.recipe} {row.task}, {count:,} parameters, {start_updates} supervised updates, {options}", flush=True)
    for number in arguments.only or range(arguments.num_seeds):
        wall, cpu = time.perf_counter(), time.process_time()
        train_key, evaluation_key = jax.random.split(keys[number])
        state = begin(train_key)
        if row.task.startswith("Vowels"):
            print(f"seed {number}: best of 8 {float(best_of_8(evaluation_key, state.agent.reference)):.3f}", flush=True)
        curve = []
        for done in range(0, num_updates + 1, chunk):
            if done:
                state, metrics = advance(train_key, state)
            right, score, deviation, kl = (float(x) for x in judge(evaluation_key, state.agent))
            curve.append((done * steps, right, score, deviation, kl))
            shown = f"length {float(np.mean(metrics['answer_length'])):.1f}" if done else ""
            print(
                f"seed {number}: {done * steps} texts, right {right:.1%}, score {score:.3f} ({deviation:.3f}), "
                f"kl {kl:.2f} {shown} [{time.perf_counter() - wall:.0f} s, cpu {time.process_time() - cpu:.0f} s]",
                flush=True,
            )
        found.append(curve)
    first, last = (np.array([curve[i] for curve in found]) for i in (0, -1))
    print(
        f"right {first[:, 1].mean():.1%} -> {last[:, 1].mean():.1%}, worst {last[:, 1].min():.1%}; score "
        f"{first[:, 2].mean():.3f} -> {last[:, 2].mean():.3f}, worst {last[:, 2].min():.3f}, in deviations of the "
        f"start {((last[:, 2] - first[:, 2]) / first[:, 3]).mean():.2f}; kl {last[:, 4].mean():.2f}, most "
        f"{last[:, 4].max():.2f}"
    )
    return [[float(x) for x in curve[-1]] for curve in found]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", choices=ROWS, default="grpo")
    parser.add_argument("--num-seeds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, nargs="+")
    parser.add_argument("--start-updates", type=int)
    parser.add_argument("--num-updates", type=int)
    parser.add_argument("--chunk", type=int, default=20, help="updates between evaluations")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--kl-coef", type=float)
    parser.add_argument("--num-minibatches", type=int)
    parser.add_argument("--num-epochs", type=int)
    main(parser.parse_args())
