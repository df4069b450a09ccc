"""Generation of completions, and the log-probabilities of given ones.

Legend of shapes: B texts, P tokens of the prompt, N tokens of the completion, V vocabulary, D width of the model.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.arguments import NON_NEGATIVE, POSITIVE, Range, check_count, check_float, check_key
from jaxrl.ops import across
from jaxrl.text.transformer import Transformer
from jaxrl.types import Array, PyTree

NOISE_SIZE = 2**24
"""Numbers of noise that are drawn before the loop; more are drawn step by step, with the same values."""


class Completion(NamedTuple):
    """Sampled completions.

    Attributes:
      tokens: ``[B, N]`` int32, 0 where the mask is false.
      log_probs: ``[B, N]``, of each token under the distribution that it was sampled from; 0 where the mask is false.
      mask: ``[B, N]`` bool, true up to the end token, which is included.
      ended: ``[B]`` bool, whether the end token was sampled; the others were cut at N tokens.
    """

    tokens: Array
    log_probs: Array
    mask: Array
    ended: Array


class Scores(NamedTuple):
    """A model's predictions for given completions; row n is for token n, after the prompt and the tokens before it.

    Attributes:
      log_probs: ``[B, N]``, 0 where the completion's mask is false.
      logits: ``[B, N, V]`` divided by the temperature.
      hidden: ``[B, N, D]`` features of which logits, or a value head, are a linear function.
    """

    log_probs: Array
    logits: Array
    hidden: Array


def truncate(logits: Array, top_k: int | None, top_p: Array | float | None) -> Array:
    """Logits with -inf outside of the likeliest tokens.

    Fan et al. 2018, arXiv:1805.04833 (top-k); Holtzman et al. 2020, arXiv:1904.09751 (top-p): the smallest set of
    likeliest tokens with a probability of at least ``top_p``, computed after top-k.

    Args:
      logits: ``[B, V]``.
      top_k: number of tokens to keep; None for all. Equal logits at the border are all kept.
      top_p: probability to keep; None for 1.

    Returns:
      ``[B, V]``.
    """
    if top_k is not None and top_k < logits.shape[-1]:
        least = jax.lax.top_k(logits, top_k)[0][..., -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if top_p is not None:
        ranked = -jnp.sort(-logits, axis=-1)
        probability = jax.nn.softmax(ranked, axis=-1)
        before = jnp.cumsum(probability, axis=-1) - probability
        # The likeliest token is always kept.
        keep = (before < top_p).at[..., 0].set(True)
        least = jnp.min(jnp.where(keep, ranked, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return logits


def last_true(mask: Array) -> Array:
    """The index of the last true token of each row, T - 1 where there is none: ``[B]`` int32.

    >>> last_true(jnp.array([[True, True, False], [False, False, False]])).tolist()
    [1, 2]
    """
    return (mask.shape[-1] - 1 - jnp.argmax(mask[..., ::-1], axis=-1)).astype(jnp.int32)


def generate(
    key: Array,
    params: PyTree,
    model: Transformer,
    prompt: Array,
    prompt_mask: Array,
    *,
    num_tokens: int,
    end: int | None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Completion:
    """Samples a completion of each prompt.

    The prompt is read in one pass; then each token is computed from the cached keys and values of those before it. It
    is compiled once for each model, shape, ``num_tokens`` and ``top_k``.

    Args:
      key: PRNG key.
      params: parameters of the model.
      model: a ``Transformer``.
      prompt: ``[B, P]`` integers, padded anywhere.
      prompt_mask: ``[B, P]`` bool, false for padding.
      num_tokens: N, the largest number of tokens of a completion.
      end: the token that ends a text; None if no token does.
      temperature: divides the logits; 0 takes the likeliest token, whose log-probability is then 0.
      top_k: sample from this many likeliest tokens only; None for all.
      top_p: sample from the likeliest tokens of this total probability only; None for all.

    Returns:
      A ``Completion``.

    Raises:
      TypeError, ValueError: an argument has the wrong type, shape or range; the message names it.
    """
    check_key(key)
    check_count("num_tokens", num_tokens)
    check_float("temperature", temperature, NON_NEGATIVE)
    check_float("top_p", top_p, Range("(0, 1]"), optional=True)
    if top_k is not None:
        check_count("top_k", top_k)
    _check_end(end, model.vocab_size)
    _check_columns("prompt", prompt, prompt_mask)
    end = -1 if end is None else end
    return _generate(model, num_tokens, top_k, key, params, prompt, prompt_mask, end, temperature, top_p)


def _check_end(end: Any, vocab_size: int) -> None:
    if end is None or isinstance(end, jax.core.Tracer):
        return
    check_count("end", end, 0)
    if end >= vocab_size:
        raise ValueError(f"end: got {end}, must be below vocab_size={vocab_size}, or None if no token ends a text")


def _check_columns(name: str, tokens: Any, mask: Any) -> None:
    shape, dtype = jnp.shape(tokens), jnp.result_type(tokens)
    if len(shape) != 2 or not shape[1] or not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(f"{name}: got {dtype}{list(shape)}, must be integers [B, T] with T at least 1")
    if jnp.shape(mask) != shape or not jnp.issubdtype(jnp.result_type(mask), jnp.bool_):
        given = f"{jnp.result_type(mask)}{list(jnp.shape(mask))}"
        raise TypeError(f"{name}_mask: got {given}, must be bool{list(shape)}, the shape of {name}")


@partial(jax.jit, static_argnums=(0, 1, 2))
def _generate(
    model: Transformer,
    num_tokens: int,
    top_k: int | None,
    key: Array,
    params: PyTree,
    prompt: Array,
    prompt_mask: Array,
    end: Array,
    temperature: Array,
    top_p: Array | None,
) -> Completion:
    num, length = prompt.shape
    size = length + num_tokens
    temperature = jnp.asarray(temperature, jnp.float32)
    hidden, caches = model.apply(params, prompt, prompt_mask, size, method="prefill")
    hidden = jnp.take_along_axis(hidden, last_true(prompt_mask)[:, None, None], axis=1)[:, 0]
    # The barrier keeps the transposed copy; XLA would else fold the transposition into each product.
    kernel = jax.lax.optimization_barrier(model.apply(params, method="logits_kernel"))
    count = prompt_mask.sum(axis=1, dtype=jnp.int32)
    columns = jnp.arange(size)
    seen = jnp.pad(prompt_mask, ((0, 0), (0, num_tokens)))

    def noise_of(step: Array) -> Array:
        return jax.random.gumbel(jax.random.fold_in(key, step), (num, model.vocab_size), jnp.float32)

    # One large draw costs less than a draw at every step, if there is room for it.
    ahead = num_tokens * num * model.vocab_size <= NOISE_SIZE
    noise = jax.vmap(noise_of)(jnp.arange(num_tokens)) if ahead else None

    def sample(hidden: Array, step: Array) -> tuple[Array, Array]:
        logits: Any = model.apply(params, hidden, kernel, method="logits")
        greedy = temperature <= 0.0
        scaled = truncate(logits / jnp.where(greedy, 1.0, temperature), top_k, top_p)
        drawn = noise_of(step) if noise is None else jax.lax.dynamic_index_in_dim(noise, step, keepdims=False)
        token = jnp.argmax(scaled + jnp.where(greedy, 0.0, drawn), axis=-1).astype(jnp.int32)
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(scaled), token[:, None], axis=-1)[:, 0]
        return token, jnp.where(greedy, 0.0, log_prob)

    def append(completion: Completion, hidden: Array, step: Array) -> tuple[Array, Completion]:
        token, log_prob = sample(hidden, step)
        going = ~completion.ended
        put = lambda rows, new: jax.lax.dynamic_update_index_in_dim(rows, new, step, axis=1)  # noqa: E731
        return token, Completion(
            put(completion.tokens, jnp.where(going, token, 0)),
            put(completion.log_probs, jnp.where(going, log_prob, 0.0)),
            put(completion.mask, going),
            completion.ended | (token == end),
        )

    def body(carry: Any) -> Any:
        step, token, caches, completion = carry
        # The token before this step lies in this column, at this position.
        column = length + step - 1
        mask = seen | ((columns >= length) & (columns <= column))[None]
        hidden, caches = model.apply(params, token, count + step - 1, mask, caches, column, method="step")
        token, completion = append(completion, hidden, step)
        return step + 1, token, caches, completion

    def unfinished(carry: Any) -> Array:
        step, _, _, completion = carry
        return (step < num_tokens) & across.any_vmapped(~completion.ended)

    empty = Completion(
        jnp.zeros((num, num_tokens), jnp.int32),
        jnp.zeros((num, num_tokens), jnp.float32),
        jnp.zeros((num, num_tokens), bool),
        jnp.zeros((num,), bool),
    )
    token, completion = append(empty, hidden, jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(unfinished, body, (jnp.ones((), jnp.int32), token, caches, completion))[-1]


def score(
    params: PyTree,
    model: Transformer,
    prompt: Array,
    prompt_mask: Array,
    completion_tokens: Array,
    completion_mask: Array,
    *,
    temperature: float = 1.0,
) -> Scores:
    """Log-probabilities, logits and features of given completions, in one differentiable pass.

    Row n is what the model says before it sees token n, so that ``log_probs`` are those of ``generate`` and a value
    head on ``hidden`` is the value of the state in which token n was chosen.

    Args:
      params: parameters of the model.
      model: a ``Transformer``.
      prompt: ``[B, P]`` integers.
      prompt_mask: ``[B, P]`` bool.
      completion_tokens: ``[B, N]`` integers.
      completion_mask: ``[B, N]`` bool, true up to the last token.
      temperature: divides the logits; that of ``generate`` for equal log-probabilities.

    Returns:
      ``Scores``.

    Raises:
      TypeError, ValueError: an argument has the wrong type, shape or range; the message names it.
    """
    check_float("temperature", temperature, POSITIVE)
    _check_columns("prompt", prompt, prompt_mask)
    _check_columns("completion", completion_tokens, completion_mask)
    tokens = jnp.concatenate([prompt, completion_tokens], axis=1)
    mask = jnp.concatenate([prompt_mask, completion_mask], axis=1)
    features: Any = model.apply(params, tokens, mask, method="features")
    # The first token follows the last true one of the prompt, wherever its padding is.
    first = jnp.take_along_axis(features, last_true(prompt_mask)[:, None, None], axis=1)
    hidden = jnp.concatenate([first, features[:, prompt.shape[1] : -1]], axis=1)
    logits: Any = model.apply(params, hidden, method="logits")
    logits = logits / jnp.asarray(temperature, jnp.float32)
    ids = jnp.where(completion_mask, jnp.clip(completion_tokens, 0, model.vocab_size - 1), 0)
    log_probs = jnp.take_along_axis(jax.nn.log_softmax(logits), ids[..., None], axis=-1)[..., 0]
    return Scores(jnp.where(completion_mask, log_probs, 0.0), logits, hidden)


def log_probs(
    params: PyTree,
    model: Transformer,
    prompt: Array,
    prompt_mask: Array,
    completion_tokens: Array,
    completion_mask: Array,
    *,
    temperature: float = 1.0,
) -> Array:
    """``log pi(token n | prompt, tokens before n)``: ``[B, N]``, 0 where the mask is false; see ``score``."""
    return score(
        params, model, prompt, prompt_mask, completion_tokens, completion_mask, temperature=temperature
    ).log_probs
