"""Learning from 2,000 pairs of answers: DPO, and RLHF against a reward model that is fitted to them.

``python -m benchmarks.text_pairs`` samples pairs of answers to Vowels-16 from a model that saw demonstrations, calls
the one with the higher scripted score the better one, fits ``text.dpo`` and ``text.fit_reward`` to the same pairs, and
trains ``rlhf`` against the fitted score alone. Each line of ``rlhf`` has the learned and the true score at a KL
divergence from the reference: where the second falls while the first rises, the reward model is over-optimised. Seeds
of ``split(key(--seed), --num-seeds)`` run one after the other.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import jax
import numpy as np

import jaxrl
from jaxrl import text
from jaxrl.ops import tokens
from jaxrl.types import Array, Text

NUM_HELD_OUT = 512


def main(arguments: argparse.Namespace) -> None:
    """Prints a line for each fit and for each evaluation of ``rlhf``."""
    task, params = jaxrl.make("Vowels-16")
    spec = jaxrl.spec(task, params)
    length = task.prompt_length + task.length
    sizes = {"width": arguments.width, "num_layers": arguments.layers, "num_heads": 4, "max_length": length}
    model = text.gpt2(spec.action.num_tokens, **sizes)
    count = arguments.num_pairs + NUM_HELD_OUT

    def write(key: Array, policy: Any, prompt: Text) -> Text:
        made = text.generate(key, policy, model, *prompt, num_tokens=task.length, end=task.end)
        return Text(made.tokens, made.mask)

    @jax.jit
    def begin(key: Array) -> Any:
        start_key, prompt_key, *keys = jax.random.split(key, 4)
        reference = text.demonstrations(task, num_batches=arguments.start_updates)(start_key, model)
        prompt = jax.vmap(task.prompt)(jax.random.split(prompt_key, count))
        pairs = text.compare(task.score, prompt, *(write(each, reference, prompt) for each in keys))
        known, held_out = (
            jax.tree.map(lambda x, part=part: x[part], pairs)
            for part in (slice(arguments.num_pairs), slice(arguments.num_pairs, count))
        )
        return reference, known, held_out

    @jax.jit
    def fit(key: Array, reference: Any, known: text.Pairs, held_out: text.Pairs) -> Any:
        settings = {"num_epochs": arguments.num_epochs, "learning_rate": arguments.learning_rate}
        policy, _ = text.dpo(key, reference, model, known, beta=arguments.beta, **settings)
        scorer, _ = text.fit_reward(key, reference, model, known, **settings)
        accuracies = [text.accuracy(policy, reference, model, held_out), text.reward_accuracy(scorer, model, held_out)]
        return policy, scorer, accuracies

    @jax.jit
    def judge(key: Array, policy: Any, reference: Any, scorer: Any) -> tuple[Array, ...]:
        """The true score with its deviation, the learned score, and the KL divergence, of 512 answers."""
        prompt = jax.vmap(task.prompt)(jax.random.split(key, NUM_HELD_OUT))
        answer = write(key, policy, prompt)
        scores = jax.vmap(task.score)(prompt, answer)
        log_prob, of_reference = (text.log_probs(each, model, *prompt, *answer) for each in (policy, reference))
        kl = tokens.masked_sum(log_prob - of_reference, answer.mask, axis=-1).mean()
        return scores.mean(), scores.std(), text.reward_score(scorer, model, prompt, answer).mean(), kl

    def agent_of(reference: Any, scorer: Any) -> Any:
        agent = jaxrl.rlhf(spec, network=model, start=lambda key, model: reference, kl_coef=arguments.kl_coef)
        return jaxrl.with_reward(agent, text.reward_model(scorer, model))

    # What was fitted is read by ``init`` alone, so that one program trains every seed.
    agent, size = agent_of(None, None), {"num_steps": 20 * 128, "rollout_length": 1}
    advance = jax.jit(lambda key, state: jaxrl.train(key, agent, task, params, state=state, **size))

    keys = jax.random.split(jax.random.key(arguments.seed), arguments.num_seeds)
    for number, key in enumerate(keys):
        wall = time.perf_counter()
        reference, known, held_out = begin(key)
        policy, scorer, accuracies = fit(key, reference, known, held_out)
        print(
            f"seed {number}: held-out accuracy of dpo {accuracies[0]:.1%}, of the reward model {accuracies[1]:.1%}",
            flush=True,
        )
        for name, each in (("reference", reference), ("dpo", policy)):
            score, deviation, learned, kl = (float(x) for x in judge(key, each, reference, scorer))
            print(
                f"seed {number}: {name}: true score {score:.3f} ({deviation:.3f}), learned {learned:.2f}, kl {kl:.2f}",
                flush=True,
            )
        state = jaxrl.start(key, agent_of(reference, scorer), task, params, 128)
        for done in range(20, arguments.num_updates + 1, 20):
            state, metrics = advance(key, state)
            score, _, learned, kl = (float(x) for x in judge(key, state.agent.agent.policy, reference, scorer))
            seen = float(np.mean(metrics["episode_return"]))
            print(
                f"seed {number}: rlhf, {done * 128} texts: true score {score:.3f} (of the rollouts {seen:.3f}), "
                f"learned {learned:.2f}, kl {kl:.2f} [{time.perf_counter() - wall:.0f} s]",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-seeds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--num-pairs", type=int, default=2_000)
    parser.add_argument("--start-updates", type=int, default=200)
    parser.add_argument("--num-updates", type=int, default=200, help="of rlhf")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--num-epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--kl-coef", type=float, default=0.05)
    main(parser.parse_args())
