"""Supervised learning of answers: the start of a policy, before it learns from rewards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxrl.arguments import NON_NEGATIVE, check_count, check_float
from jaxrl.ops import tokens
from jaxrl.text.generate import log_probs
from jaxrl.text.transformer import Transformer
from jaxrl.types import Array, PyTree, Text

DrawFn = Callable[[Array], tuple[Text, Text]]
"""``key -> (prompt [P], answer [N])``."""

StartFn = Callable[[Array, Transformer], PyTree]
"""``(key, model) -> params``: how a recipe's policy starts."""


def init_params(key: Array, model: Transformer) -> PyTree:
    """Random parameters of a model."""
    return model.init(key, jnp.zeros((1, 1), jnp.int32), jnp.ones((1, 1), bool))


def answer_loss(params: PyTree, model: Transformer, prompt: Text, answer: Text) -> Array:
    """``-mean log pi(y_t | x, y_<t)`` over the answers' own tokens: a scalar, in nats a token.

    Args:
      params, model: the language model.
      prompt: ``[B, P]``, of which nothing is learned.
      answer: ``[B, N]``.
    """
    log_prob = log_probs(params, model, *prompt, *answer)
    return -tokens.masked_sum(log_prob, answer.mask) / jnp.maximum(answer.mask.sum(), 1)


def supervised(
    key: Array,
    model: Transformer,
    draw: DrawFn,
    *,
    num_batches: int,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    params: PyTree = None,
) -> PyTree:
    """Fits a model to answers, ``min -E log pi(y | x)``, by Adam on fresh batches. It is pure: ``jit`` it.

    Args:
      key: consumed.
      model: the language model.
      draw: ``key -> (prompt, answer)``, one pair.
      num_batches: number of gradient steps.
      batch_size: pairs per step.
      learning_rate: largest step size; it rises over the first tenth of the steps and falls linearly to 0.
      params: parameters to start from; None for random ones.

    Returns:
      The parameters.

    Raises:
      TypeError, ValueError: an argument has the wrong type or range; the message names it.
    """
    check_count("num_batches", num_batches, 0)
    check_count("batch_size", batch_size)
    check_float("learning_rate", learning_rate, NON_NEGATIVE)
    init_key, fit_key = jax.random.split(key)
    params = init_params(init_key, model) if params is None else params
    warm_up = max(num_batches // 10, 1)

    def rate(count: Any) -> Any:
        rising, falling = (count + 1) / warm_up, (num_batches - count) / max(num_batches - warm_up, 1)
        return learning_rate * jnp.clip(jnp.minimum(rising, falling), 0.0, 1.0)

    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b2=0.98))

    def step(carry: tuple[PyTree, PyTree], key: Array) -> tuple[tuple[PyTree, PyTree], None]:
        params, state = carry
        prompt, answer = jax.vmap(draw)(jax.random.split(key, batch_size))
        grads = jax.grad(answer_loss)(params, model, prompt, answer)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(fit_key, num_batches)
    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys)
    return params


def demonstrations(env: Any, num_batches: int = 300, batch_size: int = 64, learning_rate: float = 1e-3) -> StartFn:
    """A start for a recipe: supervised learning on a text task's own demonstrations, none of them held out.

    Args:
      env: a text task with ``prompt(key)`` and ``demonstrate(key, prompt)``.
      num_batches: number of gradient steps; few leave the policy something to learn.
      batch_size: demonstrations per step.
      learning_rate: largest step size of Adam.

    Returns:
      ``(key, model) -> params``.

    Raises:
      TypeError, ValueError: the environment has no demonstrations, or a number is out of range.
    """
    while not hasattr(env, "demonstrate"):
        if not hasattr(env, "env"):
            raise TypeError(
                f"start: got {type(env).__name__} without demonstrate(key, prompt), must be a text task such as "
                "Reverse-6; or give start=, a function (key, model) -> params"
            )
        env = env.env
    check_count("num_batches", num_batches, 0)
    check_count("batch_size", batch_size)
    check_float("learning_rate", learning_rate, NON_NEGATIVE)

    def draw(key: Array) -> tuple[Text, Text]:
        prompt_key, answer_key = jax.random.split(key)
        prompt = env.prompt(prompt_key)
        return prompt, env.demonstrate(answer_key, prompt)

    settings: dict[str, Any] = {"batch_size": batch_size, "learning_rate": learning_rate}
    return lambda key, model: supervised(key, model, draw, num_batches=num_batches, **settings)
