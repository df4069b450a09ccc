"""Learning from pairs of answers: DPO and IPO, and a reward model. Without a trajectory these are fits, not agents.

Legend of shapes: M pairs, B texts, P tokens of the prompt, N tokens of an answer, D width of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.arguments import NON_NEGATIVE, POSITIVE, check_count, check_float
from jaxrl.envs.wrappers import StepResult, Wrapper
from jaxrl.ops import pairs as terms
from jaxrl.ops import tokens
from jaxrl.text.generate import last_true, log_probs
from jaxrl.text.transformer import Transformer
from jaxrl.types import Array, Metrics, PyTree, RewardModel, Text, Transition, features

ScoreFn = Callable[[Text, Text], Array]
"""``(prompt [P], answer [N]) -> scalar``."""


class Pairs(NamedTuple):
    """Pairs of answers to one prompt each; who preferred does not matter: a person, a judge or a script.

    Attributes:
      prompt: ``[M, P]``.
      chosen: ``[M, N]``, the preferred answer.
      rejected: ``[M, N]``.
    """

    prompt: Text
    chosen: Text
    rejected: Text


def compare(score: ScoreFn, prompt: Text, first: Text, second: Text) -> Pairs:
    """Pairs whose chosen answer has the higher score; of equal ones it is the first.

    Args:
      score: of one prompt and one answer.
      prompt: ``[M, P]``.
      first, second: ``[M, N]`` answers.
    """
    of_first, of_second = (jax.vmap(score)(prompt, answer) for answer in (first, second))
    swap = (of_second > of_first)[:, None]
    chosen, rejected = (
        jax.tree.map(lambda x, y: jnp.where(swap, y, x), *order) for order in ((first, second), (second, first))
    )
    return Pairs(prompt, chosen, rejected)


def text_log_prob(params: PyTree, model: Transformer, prompt: Text, answer: Text) -> Array:
    """``[B]`` the log-probability of whole answers, their ends included."""
    return tokens.masked_sum(log_probs(params, model, *prompt, *answer), answer.mask, axis=-1)


def _fit(
    key: Array, params: PyTree, pairs: Pairs, loss: Any, learning_rate: float, num_epochs: int, batch_size: int
) -> tuple[PyTree, Metrics]:
    """Adam on shuffled batches of pairs; the last incomplete batch of an epoch is left out."""
    check_float("learning_rate", learning_rate, NON_NEGATIVE)
    check_count("num_epochs", num_epochs)
    count = pairs.prompt.tokens.shape[0]
    check_count("batch_size", batch_size)
    if batch_size > count:
        raise ValueError(f"batch_size: got {batch_size}, must be at most {count}, the number of pairs")
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate))
    num_batches = count // batch_size

    def step(carry: tuple[PyTree, PyTree], rows: Array) -> tuple[tuple[PyTree, PyTree], Metrics]:
        params, state = carry
        grads, metrics = jax.grad(loss, has_aux=True)(params, jax.tree.map(lambda x: x[rows], pairs))
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), metrics

    orders = jax.vmap(lambda key: jax.random.permutation(key, count))(jax.random.split(key, num_epochs))
    batches = orders[:, : num_batches * batch_size].reshape(num_epochs * num_batches, batch_size)
    (params, _), metrics = jax.lax.scan(step, (params, optimizer.init(params)), batches)
    return params, metrics


def log_ratios(params: PyTree, reference: PyTree, model: Transformer, pairs: Pairs) -> tuple[Array, Array]:
    """``log pi(y|x) - log pi_ref(y|x)`` of the chosen and of the rejected answers, ``[M]`` each."""
    ratio = lambda answer: (  # noqa: E731
        text_log_prob(params, model, pairs.prompt, answer)
        - jax.lax.stop_gradient(text_log_prob(reference, model, pairs.prompt, answer))
    )
    return ratio(pairs.chosen), ratio(pairs.rejected)


def accuracy(params: PyTree, reference: PyTree, model: Transformer, pairs: Pairs) -> Array:
    """The share of pairs whose chosen answer has the larger log-ratio, the implicit reward of DPO."""
    chosen, rejected = log_ratios(params, reference, model, pairs)
    return (chosen > rejected).mean(dtype=jnp.float32)


def dpo(
    key: Array,
    params: PyTree,
    model: Transformer,
    pairs: Pairs,
    *,
    beta: float = 0.1,
    learning_rate: float = 1e-4,
    num_epochs: int = 1,
    batch_size: int = 64,
    term: Any = terms.dpo_term,
) -> tuple[PyTree, Metrics]:
    """Direct preference optimisation: a policy from pairs, without a reward model and without sampling.

    ``min -E log sigma(beta (h(chosen) - h(rejected)))``, ``h = log pi / pi_ref``, whose solution maximises
    ``E R - beta KL(pi || pi_ref)`` for the reward that explains the pairs. Rafailov et al. 2023, arXiv:2305.18290,
    eq. 7. It is a fit on data, not an agent: nothing is sampled. ``jit`` it.

    Args:
      key: consumed.
      params: of the policy; they are the reference too.
      model: the language model.
      pairs: ``[M]``.
      beta: the weight of the KL divergence.
      learning_rate: step size of Adam.
      num_epochs: passes over the pairs.
      batch_size: pairs per gradient step.
      term: the loss of a pair, of ``ops.pairs``.

    Returns:
      ``(params, metrics)``, metrics of each gradient step: ``loss``, ``accuracy``, and the mean log-ratios ``chosen``
      and ``rejected``, both of which may fall.

    Raises:
      TypeError, ValueError: an argument has the wrong type or range; the message names it.
    """
    check_float("beta", beta, POSITIVE)

    def loss(policy: PyTree, batch: Pairs) -> tuple[Array, Metrics]:
        chosen, rejected = log_ratios(policy, params, model, batch)
        value = term(chosen, rejected, beta).mean()
        right = (chosen > rejected).mean(dtype=jnp.float32)
        return value, {"loss": value, "accuracy": right, "chosen": chosen.mean(), "rejected": rejected.mean()}

    return _fit(key, params, pairs, loss, learning_rate, num_epochs, batch_size)


ipo = partial(dpo, term=terms.ipo_term)
"""``dpo`` with the squared loss of Azar et al. 2023, arXiv:2310.12036, which stays bounded at certain preferences."""


def reward_score(params: PyTree, model: Transformer, prompt: Text, answer: Text) -> Array:
    """``[B]`` the learned score of answers: a linear function of the features at the last own token."""
    both = [jnp.concatenate(parts, axis=1) for parts in zip(prompt, answer, strict=True)]
    hidden: Any = model.apply(params["model"], *both, method="features")
    last = jnp.take_along_axis(hidden, last_true(both[1])[:, None, None], axis=1)[:, 0]
    return (last @ params["kernel"] - params["shift"]) / params["scale"]


def fit_reward(
    key: Array,
    params: PyTree,
    model: Transformer,
    pairs: Pairs,
    *,
    learning_rate: float = 3e-4,
    num_epochs: int = 2,
    batch_size: int = 64,
) -> tuple[PyTree, Metrics]:
    """Fits a score to pairs by Bradley and Terry: ``min -E log sigma(s(x, chosen) - s(x, rejected))``.

    Stiennon et al. 2020, arXiv:2009.01325; Ouyang et al. 2022, arXiv:2203.02155, eq. 1. The scores of the answers in
    the pairs then get mean 0 and standard deviation 1, which the loss leaves open.

    Args:
      key: consumed.
      params: of the language model from whose features it starts.
      model: the language model.
      pairs: ``[M]``.
      learning_rate: step size of Adam.
      num_epochs: passes over the pairs; more than a few overfit.
      batch_size: pairs per gradient step.

    Returns:
      ``(params, metrics)`` for ``reward_score``; metrics of each gradient step: ``loss`` and ``accuracy``.

    Raises:
      TypeError, ValueError: an argument has the wrong type or range; the message names it.
    """
    fixed = {"shift": jnp.zeros((), jnp.float32), "scale": jnp.ones((), jnp.float32)}
    first = {"model": params, "kernel": jnp.zeros(model.width, jnp.float32)}

    def loss(learned: PyTree, batch: Pairs) -> tuple[Array, Metrics]:
        chosen, rejected = (
            reward_score({**learned, **fixed}, model, batch.prompt, answer) for answer in (batch.chosen, batch.rejected)
        )
        value = terms.dpo_term(chosen, rejected, 1.0).mean()
        return value, {"loss": value, "accuracy": (chosen > rejected).mean(dtype=jnp.float32)}

    learned, metrics = _fit(key, first, pairs, loss, learning_rate, num_epochs, batch_size)
    scores = jnp.concatenate(
        [reward_score({**learned, **fixed}, model, pairs.prompt, answer) for answer in (pairs.chosen, pairs.rejected)]
    )
    return {**learned, "shift": scores.mean(), "scale": jnp.maximum(scores.std(), 1e-6)}, metrics


def reward_accuracy(params: PyTree, model: Transformer, pairs: Pairs) -> Array:
    """The share of pairs whose chosen answer has the higher learned score."""
    chosen, rejected = (reward_score(params, model, pairs.prompt, answer) for answer in (pairs.chosen, pairs.rejected))
    return (chosen > rejected).mean(dtype=jnp.float32)


def reward_model(params: PyTree, model: Transformer) -> RewardModel:
    """A fitted score as a reward model, for ``jaxrl.with_reward``.

    The agent never sees the task's own reward, which the curve still shows: where it falls while the learned score
    rises, the score is over-optimised (Gao et al. 2022, arXiv:2210.10760).

    Args:
      params: from ``fit_reward``; they don't change.
      model: the language model of the score.
    """

    def init(key: Array, num_envs: int = 1) -> PyTree:
        return params

    def reward(key: Array, state: PyTree, trajectory: Transition) -> Array:
        flat = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:]), (features(trajectory.observation), trajectory.action)
        )
        return reward_score(state, model, *flat).reshape(trajectory.reward.shape)

    def update(key: Array, state: PyTree, trajectory: Transition) -> tuple[PyTree, Metrics]:
        return state, {}

    return RewardModel(init, reward, update)


class _Scored(Wrapper):
    def __init__(self, env: Any, score: ScoreFn) -> None:
        super().__init__(env)
        self.score = score

    def step(self, key: Array, state: PyTree, action: Any, params: PyTree = None) -> StepResult:
        observation, state, _, *ends, info = self.env.step(key, state, action, self._given(params))
        reward = jnp.asarray(self.score(features(info["final_observation"]), action), jnp.float32)
        return observation, state, reward, *ends, info


def scored(env: Any, score: ScoreFn) -> Any:
    """A text task that pays another score, such as that of a reward model; evaluation then shows that score alone.

    Args:
      env: a text task.
      score: ``(prompt [P], answer [N]) -> scalar``.
    """
    return _Scored(env, score)
