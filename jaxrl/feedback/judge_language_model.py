"""A language model in JAX as a judge, and the likelihood of a text as a reward.

The language model is an argument, a function from tokens to log-probabilities such as ``jaxrl.text.log_probs`` with its
first arguments bound. Legend of shapes: B texts, P tokens of a prompt, N tokens of a text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import types
from jaxrl.arguments import check_callable, check_count
from jaxrl.feedback.judge_server import ENDINGS, pair_question, single_question
from jaxrl.feedback.judge_texts import Names, named
from jaxrl.feedback.judge_types import Judge, Opinions, Pair, opinions
from jaxrl.feedback.segments import kept
from jaxrl.types import Array, Discrete, Metrics, RewardModel, Spec, Transition

LogProbsFn = Callable[[Array, Array, Array, Array], Array]
"""``(prompt [B, P], prompt_mask [B, P], tokens [B, N], mask [B, N]) -> [B, N]`` log-probabilities of the tokens."""

EncodeFn = Callable[[str], Sequence[int]]
"""``text -> tokens``."""

BLOCK = 64
"""Prompts are padded to a multiple of this, so that few programs are compiled."""

WHOLE = 5
"""The most digits of a number before its point."""


def language_model(
    log_probs: LogProbsFn,
    encode: EncodeFn,
    task: str,
    *,
    answers: tuple[str, str] = (" A", " B"),
    grades: tuple[str, str] = (" good", " bad"),
    batch_size: int = 16,
) -> Judge:
    """A Flax language model as a judge, by the likelihood ratio of two answers.

    ``P(first is better) = p(A | prompt) / (p(A | prompt) + p(B | prompt))``; a score is ``log p(good) - log p(bad)``.

    Args:
      log_probs: of the model, such as ``functools.partial(jaxrl.text.log_probs, params, model)``.
      encode: its tokenizer.
      task: a sentence about what a good text shows.
      answers: the texts after the prompt that stand for the first and the second.
      grades: the texts after the prompt for a good attempt and a bad one.
      batch_size: prompts that are evaluated at once.
    """
    check_callable("log_probs", log_probs, "a function of prompts and tokens, such as jaxrl.text.log_probs")
    check_callable("encode", encode, "a function from a text to its tokens")
    check_count("batch_size", batch_size)
    evaluate = jax.jit(lambda *tokens: log_probs(*tokens).sum(axis=-1))

    def of_answer(prompts: Sequence[str], answer: str) -> np.ndarray:
        """``log p(answer | prompt)``, ``[N]``."""
        found = []
        for begin in range(0, len(prompts), batch_size):
            texts = [list(encode(prompt)) for prompt in prompts[begin : begin + batch_size]]
            rows = [*texts, *[texts[0]] * (batch_size - len(texts))]
            prompt, prompt_mask = _padded(rows, BLOCK * -(-max(map(len, rows)) // BLOCK))
            tokens, mask = _padded([list(encode(answer))] * batch_size, len(encode(answer)))
            found.append(np.asarray(evaluate(prompt, prompt_mask, tokens, mask))[: len(texts)])
        return np.concatenate(found) if found else np.zeros((0,), np.float32)

    def ratio(prompts: Sequence[str], first: str, second: str) -> np.ndarray:
        return of_answer(prompts, first) - of_answer(prompts, second)

    def compare(pairs: Sequence[Pair]) -> Opinions:
        prompts = [_prompt(pair_question(task, *pair), answers) for pair in pairs]
        gap = ratio(prompts, *answers).astype(np.float64)
        return opinions([float(0.5 * (1.0 + np.tanh(0.5 * x))) if np.isfinite(x) else None for x in gap])

    def score(texts: Sequence[str]) -> Opinions:
        prompts = [_prompt(single_question(task, text), grades) for text in texts]
        return opinions([float(x) if np.isfinite(x) else None for x in ratio(prompts, *grades)])

    return Judge(compare, score)


def _prompt(question: str, answers: Sequence[str]) -> str:
    return f"{question}\n{ENDINGS['pattern'].format(example=answers[0].strip())}\n\nAnswer:"


def _padded(rows: Sequence[Sequence[int]], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens ``[B, length]``, padded on the left so that the answer follows at once, and their mask."""
    tokens, mask = np.zeros((len(rows), length), np.int32), np.zeros((len(rows), length), bool)
    for index, row in enumerate(rows):
        if len(row):
            tokens[index, -len(row) :], mask[index, -len(row) :] = row, True
    return tokens, mask


StepLogProbsFn = Callable[[Array, Array], Array]
"""``(tokens [B, N], mask [B, N]) -> [B, N]`` log-probabilities of the tokens, of texts without a prompt."""

WriteFn = Callable[[Any, Array], tuple[Array, Array]]
"""``(observation [B, ...], action [B, ...]) -> (tokens [B, N], mask [B, N])``, in JAX."""


def likelihood(log_probs: StepLogProbsFn, write: WriteFn, *, scale: Any = 1.0) -> RewardModel:
    """The likelihood of the text "State: ..., Action: ..." under a language model, as the reward of a step.

    ``r_t = scale / n_t sum_i log p(x_i | x_{<i})`` over the n_t tokens of the step's text: minus the language model's
    loss. It says how usual the text is, and hardly whether the action was good; see docs/feedback.md. ``scale`` may be
    a tracer.

    Args:
      log_probs: of the language model, such as ``lambda tokens, mask: jaxrl.text.log_probs(...)``.
      write: the texts, such as ``feedback.judge.byte_writer(spec, names)``.
      scale: factor of the reward.
    """
    check_callable("log_probs", log_probs, "a function of tokens [B, N] and their mask")
    check_callable("write", write, "a function of observations and actions, such as byte_writer(spec)")

    def reward(key: Array, state: tuple[()], trajectory: Transition) -> Array:
        del key, state
        steps = kept(trajectory)
        shape = trajectory.reward.shape
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (steps.observation, steps.action))
        tokens, mask = write(*flat)
        total = jnp.where(mask, log_probs(tokens, mask), 0.0).sum(axis=-1)
        return (scale * total / jnp.maximum(mask.sum(axis=-1), 1)).reshape(shape).astype(jnp.float32)

    def update(key: Array, state: tuple[()], trajectory: Transition) -> tuple[tuple[()], Metrics]:
        return state, {}

    return RewardModel(lambda key, num_envs=1: (), reward, update)


def byte_writer(spec: Spec, names: Names = Names(), *, digits: int = 2) -> WriteFn:  # noqa: B008
    """Writes steps as bytes inside JAX, in the words of ``template``: "State: ..., Action: ...".

    Numbers are clipped to five digits before the point. A byte is its own token.

    Args:
      spec: the environment's spec, with vectors for observations.
      names: of features and actions, as for ``template``.
      digits: decimals of numbers, up to 3.

    Raises:
      TypeError, ValueError: an argument can't be used; the message names it.
    """
    check_count("digits", digits, least=0)
    if digits > 3:
        raise ValueError(f"digits: got {digits}, must be at most 3, the precision of float32")
    features, actions = named(spec, names)
    is_discrete = isinstance(spec.action, Discrete)

    def listed(known: Sequence[str], values: Array) -> list[tuple[Array, Array]]:
        parts = []
        for index, name in enumerate(known):
            parts += [_constant(f"{', ' if index else ''}{name} "), _number(values[:, index], digits)]
        return parts

    def write(observation: Any, action: Array) -> tuple[Array, Array]:
        values = types.features(observation).reshape(-1, len(features)).astype(jnp.float32)
        parts = [_constant("State: "), *listed(features, values), _constant(", Action: ")]
        parts += [_chosen(actions, action)] if is_discrete else listed(actions, action.reshape(-1, len(actions)))
        rows = lambda leaf: jnp.broadcast_to(leaf, (values.shape[0], leaf.shape[-1]))  # noqa: E731
        tokens, mask = (jnp.concatenate([rows(part[side]) for part in parts], axis=-1) for side in (0, 1))
        order = jnp.argsort(~mask, axis=-1, stable=True)  # what is written moves to the front
        return jnp.take_along_axis(jnp.where(mask, tokens, 0), order, -1), jnp.take_along_axis(mask, order, -1)

    return write


def _constant(text: str) -> tuple[Array, Array]:
    tokens = jnp.array([list(text.encode())], jnp.int32)
    return tokens, jnp.ones(tokens.shape, bool)


def _chosen(words: Sequence[str], index: Array) -> tuple[Array, Array]:
    encoded = [word.encode() for word in words]
    width = max(map(len, encoded))
    tokens = jnp.array([list(word.ljust(width)) for word in encoded], jnp.int32)
    mask = jnp.arange(width)[None] < jnp.array([[len(word)] for word in encoded])
    return tokens[index], mask[index]


def _number(value: Array, digits: int) -> tuple[Array, Array]:
    """A number ``[B]`` with a sign where it is negative, and without leading zeros."""
    clipped = jnp.clip(jnp.nan_to_num(value), -(10.0**WHOLE) + 1.0, 10.0**WHOLE - 1.0)
    units = jnp.round(jnp.abs(clipped) * 10.0**digits).astype(jnp.int32)[:, None]
    places = 10 ** jnp.arange(WHOLE + digits - 1, -1, -1, dtype=jnp.int32)[None]
    figures = units // places % 10 + ord("0")
    shown = (units >= places) | (jnp.arange(WHOLE + digits)[None] >= WHOLE - 1)
    sign = jnp.full_like(units, ord("-")), jnp.signbit(value)[:, None]
    point = jnp.full_like(units, ord(".")), jnp.ones_like(units, bool)
    parts = [sign, (figures[:, :WHOLE], shown[:, :WHOLE])]
    parts += [point, (figures[:, WHOLE:], shown[:, WHOLE:])] if digits else []
    tokens, mask = (jnp.concatenate([part[side] for part in parts], axis=-1) for side in (0, 1))
    return tokens, mask
