"""Next-token training on one long text.

Legend of shapes: B windows, T tokens of a window, M tokens of the text.
"""

from __future__ import annotations

import math
import pydoc_data.topics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxrl.arguments import INNER_UNIT, NON_NEGATIVE, POSITIVE, check_count, check_float, check_key
from jaxrl.text.tokenizer import Tokenizer
from jaxrl.text.transformer import Transformer
from jaxrl.types import Array, PyTree

CHUNK = 25
"""Steps between two reports, in one compiled program."""


class Pretrained(NamedTuple):
    """A trained model.

    Attributes:
      params: parameters after the last step.
      bits_per_byte: of the held-out end of the text.
      history: a row ``(step, bits per byte of the training batches, of the held-out end)`` for each report; the last is
        NaN between evaluations.
    """

    params: PyTree
    bits_per_byte: float
    history: list[tuple[int, float, float]]


def prose() -> str:
    """Python's own documentation of its syntax, about 465 kB of English that every Python carries."""
    topics = pydoc_data.topics.topics
    return "\n\n".join(topics[name] for name in sorted(topics))


def nats(params: PyTree, model: Transformer, windows: Array, mask: Array) -> Array:
    """``sum -log pi(token t + 1 | tokens up to t)`` over the true tokens of windows ``[B, T]`` but the first."""
    logits, _ = model.apply(params, windows[:, :-1], mask[:, :-1])
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, windows[:, 1:])
    return jnp.where(mask[:, 1:], loss, 0.0).sum()


@partial(jax.jit, static_argnums=(0,))
def _nats(model: Transformer, params: PyTree, windows: Array, mask: Array) -> Array:
    return nats(params, model, windows, mask)


def bits_per_byte(
    params: PyTree, model: Transformer, text: str, tokenizer: Tokenizer, *, length: int = 128, batch_size: int = 32
) -> float:
    """``-log2 pi(text) / bytes``, where each token is predicted from those before it in its window of ``length``.

    Every token but the text's first is predicted once; windows overlap by one token.

    Args:
      params: parameters of the model.
      model: a ``Transformer``.
      text: the text.
      tokenizer: the tokenizer.
      length: T, the number of tokens that a window predicts.
      batch_size: B, the number of windows of a pass.

    Raises:
      ValueError: the text has fewer than two tokens.
    """
    ids = np.asarray(tokenizer.encode(text), np.int32)
    if len(ids) < 2:
        raise ValueError(f"text: got {len(ids)} tokens, must be at least 2")
    starts = range(0, len(ids) - 1, length)
    windows = np.zeros((batch_size * -(-len(starts) // batch_size), length + 1), np.int32)
    mask = np.zeros(windows.shape, bool)
    for row, start in enumerate(starts):
        part = ids[start : start + length + 1]
        windows[row, : len(part)], mask[row, : len(part)] = part, True
    batches = range(0, len(windows), batch_size)
    parts = [_nats(model, params, windows[i : i + batch_size], mask[i : i + batch_size]) for i in batches]
    return float(sum(map(float, parts)) / math.log(2.0) / len(text.encode()))


@partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=(3,))
def _train(
    model: Transformer, sizes: tuple[int, int, int], num_steps: int, carry: Any, ids: Array, key: Array, rates: Any
) -> tuple[Any, Array]:
    """``num_steps`` steps of AdamW; returns the carry and the nats a token of each step ``[num_steps]``."""
    batch_size, length, total = sizes
    learning_rate, weight_decay, warm_up = rates

    def step(carry: Any, _: None) -> tuple[Any, Array]:
        params, moments, count = carry
        starts = jax.random.randint(jax.random.fold_in(key, count), (batch_size,), 0, len(ids) - length)
        windows = ids[starts[:, None] + jnp.arange(length + 1)[None]]
        mean = lambda params: nats(params, model, windows, jnp.ones_like(windows, bool)) / (batch_size * length)  # noqa: E731
        loss, gradient = jax.value_and_grad(mean)(params)
        progress = jnp.clip((count - warm_up) / jnp.maximum(total - warm_up, 1), 0.0, 1.0)
        cosine = 0.1 + 0.9 * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
        rate = learning_rate * jnp.minimum(1.0, (count + 1) / jnp.maximum(warm_up, 1)) * cosine
        updates, moments = _adamw(weight_decay, rate).update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments, count + 1), loss

    return jax.lax.scan(step, carry, None, length=num_steps)


def _adamw(weight_decay: Any, rate: Any) -> Any:
    matrices = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)  # noqa: E731
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(rate, b2=0.95, weight_decay=weight_decay, mask=matrices)
    )


def pretrain(
    key: Array,
    model: Transformer,
    text: str | Path | None = None,
    *,
    tokenizer: Tokenizer,
    params: PyTree | None = None,
    num_steps: int = 1000,
    batch_size: int = 32,
    length: int = 128,
    learning_rate: float = 3e-3,
    weight_decay: float = 0.1,
    warm_up: int = 50,
    held_out: float = 0.1,
    report: Callable[[int, float, float], None] | None = None,
    evaluate_every: int = 10,
) -> Pretrained:
    """Trains a language model to predict the next token, ``min -sum_t log pi(x_{t+1} | x_1 .. x_t)``.

    AdamW with a linear warm-up and a cosine decay to a tenth, gradients clipped to norm 1, as in Touvron et al. 2023,
    arXiv:2302.13971. It is one call without a checkpoint; give the returned parameters to go on.

    Args:
      key: PRNG key.
      model: a ``Transformer``.
      text: a text, the path of a text file, or None for ``prose()``.
      tokenizer: the tokenizer; the model's ``vocab_size`` must cover it.
      params: parameters to start from; None for new ones.
      num_steps: number of gradient steps.
      batch_size: B, the number of windows of a step.
      length: T, the number of tokens that a window predicts.
      learning_rate: the largest learning rate.
      weight_decay: decay of matrices.
      warm_up: number of steps in which the learning rate grows.
      held_out: fraction of the text, its end, that is only evaluated.
      report: called with ``(step, bits per byte of the training batches, of the held-out end)`` every 25 steps; the
        last is NaN between evaluations.
      evaluate_every: number of reports from one evaluation to the next; the last is always evaluated.

    Returns:
      A ``Pretrained``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or is out of range, or the text is too short.
    """
    check_key(key)
    counts = {"num_steps": num_steps, "batch_size": batch_size, "length": length, "evaluate_every": evaluate_every}
    for name, count in counts.items():
        check_count(name, count)
    check_count("warm_up", warm_up, 0)
    check_float("learning_rate", learning_rate, POSITIVE)
    check_float("weight_decay", weight_decay, NON_NEGATIVE)
    check_float("held_out", held_out, INNER_UNIT)
    if tokenizer.vocab_size > model.vocab_size:
        raise ValueError(f"tokenizer: got {tokenizer.vocab_size} tokens, must be at most vocab_size={model.vocab_size}")
    if length > model.max_length:
        raise ValueError(f"length: got {length}, must be at most max_length={model.max_length}")
    whole = prose() if text is None else text.read_text(encoding="utf-8") if isinstance(text, Path) else text
    cut = int(len(whole) * (1.0 - held_out))
    seen, unseen = whole[:cut], whole[cut:]
    ids = jnp.asarray(tokenizer.encode(seen), jnp.int32)
    if len(ids) <= length or len(unseen) < 2:
        raise ValueError(f"text: got {len(ids)} tokens to train on, must be more than length={length}")
    bits = len(ids) / len(seen.encode()) / math.log(2.0)  # bits per byte of one nat per token
    shape = {"length": length, "batch_size": batch_size}

    init_key, run_key = jax.random.split(key)
    if params is None:
        params = jax.jit(model.init)(init_key, jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool))
    params = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float32), params)  # copies, for the program donates them
    rates = (learning_rate, weight_decay, warm_up)
    carry = (params, jax.jit(_adamw(weight_decay, learning_rate).init)(params), jnp.zeros((), jnp.int32))
    history = []
    for begun in range(0, num_steps, CHUNK):
        num = min(CHUNK, num_steps - begun)
        carry, losses = _train(model, (batch_size, length, num_steps), num, carry, ids, run_key, rates)
        done = begun + num
        due = done == num_steps or (done // CHUNK) % evaluate_every == 0
        row = (
            done,
            float(losses.mean()) * bits,
            bits_per_byte(carry[0], model, unseen, tokenizer, **shape) if due else math.nan,
        )
        history.append(row)
        if report is not None:
            report(*row)
    return Pretrained(carry[0], history[-1][2], history)
