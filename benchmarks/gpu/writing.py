"""Rows of language models: generation, and one update of ``grpo``, at the size of GPT-2 (124M parameters)."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.gpu.row import Figures, Row, Skipped, compiled, timed

SMALL = {"vocab_size": 64, "width": 16, "num_layers": 1, "num_heads": 2, "max_length": 32}


def language_model(small: bool, dtype: str) -> Any:
    """GPT-2's shape, or a toy's."""
    try:
        from jaxrl import text
    except ImportError as error:
        raise Skipped(f"jaxrl.text is not there: {error}") from None
    return text.gpt2(**(SMALL if small else {}), dtype=dtype)


def generation(dtype: str, batch: int, small: bool) -> Figures:
    """Sampled tokens a second, each text at full length."""
    model = language_model(small, dtype)
    from jaxrl.text import generate

    batch, length, num_tokens = (2, 4, 8) if small else (batch, 64, 256)
    prompt = jax.random.randint(jax.random.key(0), (batch, length), 0, model.vocab_size)
    mask = jnp.ones(prompt.shape, bool)
    params = jax.jit(model.init)(jax.random.key(1), prompt, mask)
    write = partial(generate, model=model, num_tokens=num_tokens, end=None)
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


def grpo_step(small: bool) -> Figures:
    """Seconds of one update of ``grpo``: 64 texts of 256 tokens in groups of 8, bfloat16 products."""
    language_model(small, "bfloat16")
    raise Skipped("jaxrl.agents has no grpo")


ROWS = (
    *(
        Row(f"text/generate_{dtype}_{batch}", partial(generation, dtype, batch), limit=90, needs=30)
        for dtype, batch in (("bfloat16", 64), ("float32", 64), ("bfloat16", 1))
    ),
    Row("text/grpo", grpo_step, limit=120, needs=40),
)
