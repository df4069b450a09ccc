"""Parts of recipes of language models: the model, how it acts, and texts as a batch with their log-probabilities.

Legend of shapes: M texts, P tokens of the prompt, N tokens of the answer, G = T answers to a prompt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl import text
from jaxrl.agents.parts.minibatches import check_minibatches
from jaxrl.ops import across, groups, tokens
from jaxrl.types import Array, Metrics, PyTree, Spec, Text, Transition, features

Network = Annotated[nn.Module, "a language model such as jaxrl.text.gpt2(vocab_size)"]
Start = Annotated[Callable[..., Any], "a function (key, model) -> params, such as jaxrl.text.demonstrations(env)"]
Denominator = Literal["constant", "tokens", "texts"]


class Written(NamedTuple):
    """The extras of ``act``, which ``update`` needs.

    Attributes:
      ended: ``[B]`` bool, whether an answer has its end; the others were cut.
    """

    ended: Array


class Batch(NamedTuple):
    """Texts with what was known of them before the first gradient step.

    Attributes:
      prompt: ``[M, P]``.
      answer: ``[M, N]``.
      log_prob: ``[M, N]`` of the answers' tokens under the policy that wrote them.
      reference: ``[M, N]`` the same under the reference.
      advantage: ``[M]``, or ``[M, N]`` for each token.
      target: ``[M, N]`` of the values; () without.
      value: ``[M, N]`` before the update; () without.
    """

    prompt: Text
    answer: Text
    log_prob: Array
    reference: Array
    advantage: Any = ()
    target: Any = ()
    value: Any = ()


def make_model(spec: Spec, network: Any) -> Any:
    """The language model of a recipe: the one given, checked, or GPT-2's architecture with 0.8M parameters.

    Raises:
      ValueError: the model has another vocabulary, or too few positions; the message names it.
    """
    length = features(spec.observation).tokens.shape[0] + spec.action.length
    if network is None:
        return text.gpt2(spec.action.num_tokens, width=128, num_layers=4, num_heads=4, max_length=length)
    if network.vocab_size != spec.action.num_tokens:
        raise ValueError(
            f"network: got vocab_size={network.vocab_size}, must be {spec.action.num_tokens}, the tokens of the task"
        )
    if network.max_length < length:
        raise ValueError(
            f"network: got max_length={network.max_length}, must be at least {length}, a prompt and its answer"
        )
    return network


def first_params(key: Array, model: Any, start: Any) -> PyTree:
    """The parameters of the policy and of its reference: from ``start``, or random."""
    return text.init_params(key, model) if start is None else start(key, model)


def write(
    key: Array, params: PyTree, model: Any, spec: Spec, observation: Any, temperature: Any, explore: bool
) -> tuple[Text, Written]:
    """Answers ``[B, N]`` to prompts ``[B, P]``, sampled at a temperature, or the likeliest tokens."""
    prompt = features(observation)
    made = text.generate(
        key,
        params,
        model,
        prompt.tokens,
        prompt.mask,
        num_tokens=spec.action.length,
        end=spec.action.end,
        temperature=temperature if explore else 0.0,
    )
    return Text(made.tokens, made.mask), Written(made.ended)


def make_batch(
    trajectory: Transition, params: PyTree, reference: PyTree, model: Any, temperature: Any, num_minibatches: int
) -> Batch:
    """The texts of a trajectory ``[T, B]``, flattened to M, with log-probabilities recomputed by one full pass.

    They are those of the loss, so that the ratio starts at 1: sampled ones differ by the rounding of the cache.

    Raises:
      ValueError: there are no texts, or the minibatches don't divide their number.
    """
    check_minibatches(num_minibatches, trajectory.reward.shape)
    prompt, answer = flat((features(trajectory.observation), trajectory.action))
    log_prob, of_reference = (
        text.log_probs(each, model, *prompt, *answer, temperature=temperature) for each in (params, reference)
    )
    return Batch(prompt, answer, *map(jax.lax.stop_gradient, (log_prob, of_reference)))


def flat(tree: PyTree) -> PyTree:
    """Leaves ``[T, B, ...]`` as ``[T B, ...]``."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def text_kl(batch: Batch) -> Array:
    """``[M]`` the estimate k1 of ``KL(pi || pi_ref)`` of whole texts: ``sum_t log pi - log pi_ref``."""
    return tokens.masked_sum(tokens.kl_k1(batch.reference - batch.log_prob), batch.answer.mask, axis=-1)


def groups_of(trajectory: Transition) -> Array:
    """``[T, T, B]`` bool: which answers of an environment are to the same prompt."""
    return groups.same_prompt(*features(trajectory.observation))


def mean_of_texts(terms: Array, mask: Array, denominator: Denominator) -> Array:
    """The mean of per-token terms, a scalar.

    "constant": the sum over all tokens, over M N, whatever the lengths (Liu et al. 2025, arXiv:2503.20783): a token
    weighs the same in a short and in a long text, and a batch of short texts is not scaled up. "tokens": over the
    number of tokens (DAPO, Yu et al. 2025, arXiv:2503.14476). "texts": the mean over texts of each one's mean, as in
    the paper of GRPO: a token of a long text weighs less, so that long wrong answers are punished less. Texts that the
    mask leaves out as a whole count neither above nor below.

    Args:
      terms: ``[M, N]``.
      mask: ``[M, N]`` bool.
      denominator: which.
    """
    kept, length = mask.any(-1), mask.sum(-1)
    if denominator == "tokens":
        count = length.sum()
    else:
        count = kept.sum() * (terms.shape[-1] if denominator == "constant" else 1)
    if denominator == "texts":
        terms = terms / jnp.maximum(length, 1)[:, None]
    # Where environments are split over devices, the mean over devices of these is the mean over all texts.
    total = jnp.maximum(across.total(count.astype(terms.dtype)), 1.0)
    return across.size() * tokens.masked_sum(terms, mask) / total


def metrics_of(trajectory: Transition, batch: Batch) -> Metrics:
    """Means over the texts of a rollout; nothing at padding counts."""
    return {
        "score": trajectory.reward.mean(),
        "kl": text_kl(batch).mean(),
        "answer_length": batch.answer.mask.sum(-1).astype(jnp.float32).mean(),
        "ended": trajectory.extras.ended.astype(jnp.float32).mean(),
        "token_nll": -tokens.masked_mean(batch.log_prob, batch.answer.mask),
    }
