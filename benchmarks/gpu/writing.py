"""Rows of language models: generation, and one update of ``grpo``, at the size of GPT-2 (124M parameters)."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import jaxrl
from benchmarks.gpu.row import Figures, Row, compiled, timed
from jaxrl import envs, text
from jaxrl.envs.texts.base import TextTask
from jaxrl.types import Text

SMALL = {"vocab_size": 64, "width": 16, "num_layers": 1, "num_heads": 2, "max_length": 32}


def language_model(small: bool, dtype: str) -> Any:
    """GPT-2's shape, or a toy's."""
    return text.gpt2(**(SMALL if small else {}), dtype=dtype)


def generation(dtype: str, batch: int, small: bool) -> Figures:
    """Sampled tokens a second, each text at full length."""
    model = language_model(small, dtype)
    batch, length, num_tokens = (2, 4, 8) if small else (batch, 64, 256)
    prompt = jax.random.randint(jax.random.key(0), (batch, length), 0, model.vocab_size)
    mask = jnp.ones(prompt.shape, bool)
    params = jax.jit(model.init)(jax.random.key(1), prompt, mask)
    write = partial(text.generate, model=model, num_tokens=num_tokens, end=None)
    program, compile_seconds = compiled(
        lambda key, params, prompt, mask: write(key, params, prompt=prompt, prompt_mask=mask),
        jax.random.key(2),
        params,
        prompt,
        mask,
    )
    seconds = timed(lambda: program(jax.random.key(2), params, prompt, mask))
    return {
        "tokens/s": batch * num_tokens / seconds,
        "ms a token": 1e3 * seconds / num_tokens,
        "compile s": compile_seconds,
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "batch": batch,
    }


class Even(TextTask):
    """Random prompts; the share of even tokens in the answer is its score."""

    def draw(self, key: jax.Array) -> Text:
        tokens = jax.random.randint(key, (self.prompt_length,), 0, len(self.alphabet))
        return Text(tokens, jnp.ones(tokens.shape, bool))

    def score(self, prompt: Text, answer: Text) -> jax.Array:
        return (answer.mask & (answer.tokens % 2 == 0)).sum() / answer.mask.sum()


def grpo_step(group: int, num_prompts: int, small: bool) -> Figures:
    """Seconds of a round of ``grpo``: answers to all prompts are written, scored and learned from, 4 gradient steps."""
    group, num_prompts, length, num_tokens = (2, 2, 4, 8) if small else (group, num_prompts, 64, 192)
    model = language_model(small, "bfloat16")
    task = Even("".join(map(chr, range(model.vocab_size - 1))), length, num_tokens)
    env = envs.repeat(task, group)
    agent = jaxrl.grpo(jaxrl.spec(env, env.default_params), network=model)
    sizes = {"num_envs": num_prompts, "rollout_length": group}

    def learn(key: jax.Array, state: Any) -> Any:
        return jaxrl.train(key, agent, env, env.default_params, num_steps=num_prompts * group, state=state, **sizes)

    held = [jaxrl.start(jax.random.key(0), agent, env, env.default_params, num_envs=num_prompts)]
    step, compile_seconds = compiled(learn, jax.random.key(1), held[0], donate=(1,))

    def call() -> Any:
        held[0], metrics = step(jax.random.key(1), held[0])
        return metrics

    seconds = timed(call, enough=20.0)
    texts = num_prompts * group
    return {"s a round": seconds, "texts/s": texts / seconds, "compile s": compile_seconds, "texts": texts}


ROWS = (
    *(
        Row(f"text/generate_{dtype}_{batch}", partial(generation, dtype, batch), limit=90, needs=30)
        for dtype, batch in (("bfloat16", 64), ("float32", 64), ("bfloat16", 1))
    ),
    Row("text/grpo_round", partial(grpo_step, 8, 8), limit=150, needs=60),
)
