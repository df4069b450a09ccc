"""Answered comparisons, and the ensemble of reward networks that is fitted to them. Christiano et al. 2017.

Legend of shapes: C capacity, L steps of a segment, E members, N samples of a minibatch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxrl.feedback.bradley_terry import cross_entropy, log_probability
from jaxrl.feedback.segments import Segments, masked_sum
from jaxrl.types import Array, PyTree

ROUND = 10
"""Gradient steps between two adaptations of the penalty."""

RATIO = (1.1, 1.5)
"""The range of the ratio of held-out to training loss in which the penalty stays as it is."""

RATE, LEAST, MOST = 1.5, 1e-7, 1.0
"""Factor and limits of the adaptation of the penalty."""

HELD_OUT = 0.36787944
"""Fraction of comparisons that a member never trains on: 1/e, those that a bootstrap sample leaves out on average."""


class Comparisons(NamedTuple):
    """Queries that were put to a teacher, without the environment's reward.

    Attributes:
      observation: ``[C, 2, L, ...]``.
      action: ``[C, 2, L, ...]``.
      mask: ``[C, 2, L]`` bool, the steps that segments have.
      label: ``[C]`` the preference for the first segment.
      given: ``[C]`` bool, whether there is an answer; False for skipped queries and for free rows.
      held_out: ``[C, E]`` bool, whether a member never trains on a comparison.
      asked: int32, the number of rows in use.
    """

    observation: Any
    action: Array
    mask: Array
    label: Array
    given: Array
    held_out: Array
    asked: Array


def empty(example: Any, capacity: int, length: int, num_members: int) -> Comparisons:
    """No comparisons.

    Args:
      example: one transition without a batch axis, as shapes and dtypes.
      capacity: C.
      length: L.
      num_members: E.
    """
    zeros = lambda x: jnp.zeros((capacity, 2, length, *x.shape), x.dtype)  # noqa: E731
    return Comparisons(
        jax.tree.map(zeros, example.observation),
        zeros(example.action),
        jnp.zeros((capacity, 2, length), bool),
        jnp.zeros((capacity,), jnp.float32),
        jnp.zeros((capacity,), bool),
        jnp.zeros((capacity, num_members), bool),
        jnp.zeros((), jnp.int32),
    )


def added(comparisons: Comparisons, pairs: Segments, label: Array, given: Array, held_out: Array) -> Comparisons:
    """The comparisons with new ones behind; those beyond the capacity are dropped.

    Args:
      comparisons: so far.
      pairs: ``[Q, 2, L, ...]``.
      label, given: ``[Q]``.
      held_out: ``[Q, E]``.
    """
    capacity, count = comparisons.label.shape[0], label.shape[0]
    rows = comparisons.asked + jnp.arange(count, dtype=jnp.int32)
    new = (pairs.transitions.observation, pairs.transitions.action, pairs.mask, label, given, held_out)
    write = lambda old, new: old.at[rows].set(new.astype(old.dtype), mode="drop")  # noqa: E731
    observation, action, mask, label, given, held_out = jax.tree.map(write, tuple(comparisons[:-1]), new)
    asked = jnp.minimum(comparisons.asked + count, capacity)
    return Comparisons(observation, action, mask, label, given, held_out, asked)


class Learner(NamedTuple):
    """The part of the state that fitting changes, leaves ``[E, ...]``.

    Attributes:
      params: parameters of the reward networks.
      optimizer_state: state of the optax optimizer.
      penalty: ``[E]`` coefficient of the sum of squared weights.
    """

    params: PyTree
    optimizer_state: PyTree
    penalty: Array


class Fit(NamedTuple):
    """The agreement of the networks with the answers, as means over the members; zeros before the first fit.

    Attributes:
      train_loss: cross-entropy of the comparisons that a member trains on, in nats.
      held_out_loss: of those that it never trains on.
      held_out_accuracy: fraction of held-out comparisons, ties left out, whose preferred segment has the larger learned
        return.
    """

    train_loss: Array
    held_out_loss: Array
    held_out_accuracy: Array


RewardFn = Callable[[PyTree, Any, Array], Array]
"""``(params, observation [...], action [...]) -> rewards [...]`` of one member."""


def returns(reward: RewardFn, params: PyTree, observation: Any, action: Array, mask: Array) -> Array:
    """The learned returns ``[...]`` of segments ``[..., L]``."""
    return masked_sum(reward(params, observation, action), mask)


def _weighted_mean(terms: Array, weight: Array) -> Array:
    """The mean of the terms with a weight above 0; 0 if there are none."""
    return jnp.where(weight > 0.0, terms * weight, 0.0).sum() / jnp.maximum(weight.sum(), 1.0)


def fit(
    key: Array,
    learner: Learner,
    comparisons: Comparisons,
    reward: RewardFn,
    optimizer: optax.GradientTransformation,
    *,
    noise: Any,
    num_steps: int,
    batch_size: int,
    unanswered: Segments | None = None,
    confidence: Any = None,
) -> tuple[Learner, Fit]:
    """Fits each member by gradient steps on the cross-entropy of Bradley-Terry, with an adapted L2 penalty.

    After every ``ROUND`` steps the penalty grows where the held-out loss exceeds 1.5 times the training loss, and
    shrinks where it is below 1.1 times. Christiano et al. 2017, section 2.2.3.

    Args:
      key: consumed.
      learner: ``[E, ...]``.
      comparisons: at least one; without any the gradient is that of the penalty.
      reward: of one member.
      optimizer: optax optimizer of one member.
      noise: fraction of answers that are random.
      num_steps: gradient steps, rounded up to whole rounds.
      batch_size: N.
      unanswered: ``[M, 2, L, ...]`` pairs without answers.
      confidence: the least probability at which a member's own prediction for one of them is taken as its label; N of
        them are looked at in each step. None for none. Park et al. 2022.
    """

    def gap(params: PyTree, observation: Any, action: Array, mask: Array) -> Array:
        both = returns(reward, params, observation, action, mask)
        return both[:, 0] - both[:, 1]

    def of_member(key: Array, learner: Learner, held_out: Array) -> tuple[Learner, Fit]:
        train = (comparisons.given & ~held_out).astype(jnp.float32)
        test = (comparisons.given & held_out).astype(jnp.float32)
        cumulative = jnp.cumsum(train)
        every = (comparisons.observation, comparisons.action, comparisons.mask)

        def of_guesses(params: PyTree, key: Array) -> Array:
            """The mean loss of confident guesses on pairs that nobody answered."""
            assert unanswered is not None
            rows = jax.random.randint(key, (batch_size,), 0, unanswered.mask.shape[0])
            steps, mask = jax.tree.map(lambda leaf: leaf[rows], unanswered)
            gaps = gap(params, steps.observation, steps.action, mask)
            certainty = jnp.exp(log_probability(jnp.abs(jax.lax.stop_gradient(gaps)), 0.0))
            losses = cross_entropy(gaps, (gaps > 0.0).astype(jnp.float32), noise)
            return jnp.where(certainty >= confidence, losses, 0.0).mean()

        def objective(params: PyTree, penalty: Array, rows: Array, key: Array) -> Array:
            seen = jax.tree.map(lambda leaf: leaf[rows], every)
            losses = cross_entropy(gap(params, *seen), comparisons.label[rows], noise)
            squares = sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(params) if leaf.ndim > 1)
            guessed = 0.0 if confidence is None else of_guesses(params, jax.random.fold_in(key, 1))
            return _weighted_mean(losses, train[rows]) + guessed + penalty * squares

        def step(learner: Learner, key: Array) -> tuple[Learner, None]:
            place = jax.random.uniform(key, (batch_size,)) * cumulative[-1]
            rows = jnp.minimum(jnp.searchsorted(cumulative, place, side="right"), train.shape[0] - 1)
            grads = jax.grad(objective)(learner.params, learner.penalty, rows, key)
            updates, optimizer_state = optimizer.update(grads, learner.optimizer_state, learner.params)
            return Learner(optax.apply_updates(learner.params, updates), optimizer_state, learner.penalty), None

        def evaluate(params: PyTree) -> Fit:
            gaps = gap(params, *every)
            losses = cross_entropy(gaps, comparisons.label, noise)
            decided = test * (comparisons.label != 0.5)
            right = ((gaps > 0.0) == (comparisons.label > 0.5)).astype(jnp.float32)
            return Fit(_weighted_mean(losses, train), _weighted_mean(losses, test), _weighted_mean(right, decided))

        def one_round(carry: tuple[Learner, Fit], key: Array) -> tuple[tuple[Learner, Fit], None]:
            learner, _ = jax.lax.scan(step, carry[0], jax.random.split(key, ROUND))
            found = evaluate(learner.params)
            ratio = found.held_out_loss / jnp.maximum(found.train_loss, 1e-8)
            factor = jnp.where(ratio > RATIO[1], RATE, jnp.where(ratio < RATIO[0], 1.0 / RATE, 1.0))
            factor = jnp.where((train.sum() > 0.0) & (test.sum() > 0.0), factor, 1.0)
            return (learner._replace(penalty=jnp.clip(learner.penalty * factor, LEAST, MOST)), found), None

        start = (learner, Fit(*jnp.zeros((3,), jnp.float32)))
        return jax.lax.scan(one_round, start, jax.random.split(key, -(-num_steps // ROUND)))[0]

    keys = jax.random.split(key, learner.penalty.shape[0])
    learner, fits = jax.vmap(of_member)(keys, learner, comparisons.held_out.T)
    return learner, jax.tree.map(lambda x: x.mean(), fits)
