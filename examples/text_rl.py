"""A small language model learns a taste: GRPO on Vowels-6, from random letters to three vowels and an end.

The model first sees demonstrations, letters of English frequency in words of any length; then it writes eight answers
to each prompt and learns from their scores. The control gets scores that have nothing to do with its answers.
"""

import argparse

import jax
import numpy as np

import jaxrl
from jaxrl import envs, text
from jaxrl.envs.texts import Vowels


def main(
    num_updates: int = 100,
    num_letters: int = 6,
    width: int = 32,
    learning_rate: float = 3e-3,
    control: bool = False,
) -> tuple[float, float]:
    task = Vowels(num_letters)
    params = task.default_params
    env = envs.repeat(task, 8)
    if control:
        env = text.scored(env, lambda prompt, answer: jax.numpy.sin(1e3 * answer.tokens.sum()))
    spec = jaxrl.spec(env, params)
    length = task.prompt_length + task.length
    model = text.gpt2(spec.action.num_tokens, width=width, num_layers=1, num_heads=2, max_length=length)
    start = text.demonstrations(task, num_batches=100, batch_size=32, learning_rate=1e-2)
    agent = jaxrl.grpo(spec, network=model, start=start, learning_rate=learning_rate, num_minibatches=2)

    @jax.jit
    def run(key):
        start_key, train_key, judge_key = jax.random.split(key, 3)
        state, metrics = jaxrl.train(
            train_key, agent, env, params, num_steps=num_updates * 64, num_envs=8, rollout_length=8
        )
        prompts = jax.vmap(task.prompt)(jax.random.split(start_key, 256))
        before, _ = agent.act(judge_key, state.agent._replace(params=state.agent.reference), prompts)
        after, _ = agent.act(judge_key, state.agent, prompts)
        scores = [jax.vmap(task.score)(prompts, answers) for answers in (before, after)]
        return before, after, scores, metrics

    before, after, scores, metrics = run(jax.random.key(0))
    for name, answers, score in (("before", before, scores[0]), ("after", after, scores[1])):
        shown = " ".join(task.decode(jax.tree.map(lambda x, i=i: x[i], answers)) for i in range(8))
        print(f"{name}: mean score {score.mean():.2f}; {shown}")
    print(f"KL from the reference {np.asarray(metrics['kl'])[-1]:.1f} nats a text")
    return float(scores[0].mean()), float(scores[1].mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-updates", type=int, default=100)
    parser.add_argument("--control", action="store_true")
    arguments = parser.parse_args()
    main(arguments.num_updates, control=arguments.control)
