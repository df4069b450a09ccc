"""Teachers: who compares two segments. Scripted ones stand in for a person in experiments. Lee et al. 2021.

A teacher is a function ``(key, pairs, pool) -> Answers``. The scripted ones see the environment's reward; nothing else
of a reward model does. Legend of shapes: Q queries, L steps of a segment, M segments of the pool.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jaxrl.arguments import NON_NEGATIVE, UNIT, check_callable, check_float
from jaxrl.feedback.segments import Segments, masked_sum
from jaxrl.types import Array, Transition


class Answers(NamedTuple):
    """The answers to Q queries.

    Attributes:
      label: ``[Q]`` float32, the preference for the first segment: 1 for the first, 0 for the second, 1/2 for a tie.
      given: ``[Q]`` bool, False where the teacher skipped the query.
    """

    label: Array
    given: Array


class Teacher(Protocol):
    """Compares segments."""

    def __call__(self, key: Array, pairs: Segments, pool: Segments) -> Answers:
        """Answers queries.

        Args:
          key: consumed.
          pairs: ``[Q, 2, L, ...]``, the two segments of each query.
          pool: ``[M, L, ...]``, segments of recent experience, for the scale of returns.
        """
        ...


ScoreFn = Callable[[Transition], Array]
"""``transitions [..., L] -> [..., L]``: what each step is worth to a teacher."""


def scripted(
    *,
    rationality: Any = None,
    discount: Any = 1.0,
    mistake: Any = 0.0,
    skip: Any = 0.0,
    equal: Any = 0.0,
    score: ScoreFn = lambda transitions: transitions.reward,
) -> Teacher:
    """A teacher that compares the true returns of segments, with the flaws of people. Lee et al. 2021, section 3.

    With ``R = sum_t discount^(n - t) r_t`` over the n steps of a segment, it prefers the first with probability
    ``sigmoid(rationality (R_1 - R_2) / sigma)``, sigma the standard deviation of R in the pool, or the larger R where
    rationality is None. In this order: a query whose two returns are low is skipped, a label is flipped by mistake, and
    two returns that differ little are called equal. Lee et al. 2021, "B-Pref: benchmarking preference-based
    reinforcement learning", arXiv:2111.03026. Four things differ from its code: rationality is in units of that
    standard deviation; thresholds are multiplied by their epsilon once, and compare discounted returns; low means near
    the worst return of the pool, ``R < min + skip (mean - min)``, which is B-Pref's where the worst return is 0 and
    makes sense where returns are negative; for perfect rationality, returns that are exactly equal are a tie. Every
    float may be a tracer.

    Args:
      rationality: inverse temperature in units of the standard deviation of returns; None for perfect rationality, 0
        for random answers.
      discount: per step back from the end of a segment; below 1 the teacher is myopic and remembers the end best.
      mistake: probability that a label is flipped.
      skip: fraction of ``mean - min`` above the worst return below which both segments must lie to be skipped.
      equal: fraction of ``mean - min`` by which returns of segments that are called equal differ at most.
      score: ``transitions -> [..., L]``, what each step is worth; the environment's reward unless given.

    Raises:
      TypeError, ValueError: an argument is outside its range; the message names it.

    >>> from jaxrl.feedback import teachers
    >>> teacher = teachers.scripted(mistake=0.1, equal=0.05)
    """
    check_float("rationality", rationality, NON_NEGATIVE, optional=True)
    check_callable("score", score, "a function from transitions [..., L] to values [..., L]")
    for name, flaw in (("discount", discount), ("mistake", mistake), ("skip", skip), ("equal", equal)):
        check_float(name, flaw, UNIT)

    def value(segments: Segments) -> Array:
        """``sum_t discount^(n - t) r_t`` of each segment."""
        steps_after = jnp.cumsum(segments.mask[..., ::-1], axis=-1)[..., ::-1] - 1
        weight = jnp.asarray(discount, jnp.float32) ** jnp.maximum(steps_after, 0)
        return masked_sum(weight * score(segments.transitions).astype(jnp.float32), segments.mask)

    def teacher(key: Array, pairs: Segments, pool: Segments) -> Answers:
        choice_key, mistake_key = jax.random.split(key)
        values, in_pool = value(pairs), value(pool)
        first, second = values[..., 0], values[..., 1]
        gap, worst = first - second, in_pool.min()
        margin = in_pool.mean() - worst
        if rationality is None:
            label = 0.5 * (1.0 + jnp.sign(gap))
        else:
            scaled = rationality * gap / jnp.maximum(in_pool.std(), 1e-8)
            label = jax.random.bernoulli(choice_key, jax.nn.sigmoid(scaled)).astype(jnp.float32)
        flipped = jax.random.bernoulli(mistake_key, mistake, gap.shape)
        label = jnp.where(flipped, 1.0 - label, label)
        tie = (jnp.abs(gap) < equal * margin) | ((gap == 0.0) if rationality is None else False)
        too_low = jnp.maximum(first, second) < worst + skip * margin
        return Answers(jnp.where(tie, 0.5, label).astype(jnp.float32), ~too_low)

    return teacher


def outside(key: Array, pairs: Segments, pool: Segments) -> Answers:
    """The teacher whose answers come later, from outside of the program: none is given yet.

    ``preferences`` fits to the answers that ``runs.outside_answers`` writes into its state between chunks of updates.
    """
    del key, pool
    return Answers(jnp.full(pairs.mask.shape[:1], 0.5, jnp.float32), jnp.zeros(pairs.mask.shape[:1], bool))


TeacherName = Literal["oracle", "equal", "skip", "myopic", "mistake", "stochastic", "random", "person", "judge"]
"""The names of ``TEACHERS``."""

TEACHERS: dict[TeacherName, Teacher] = {
    "oracle": scripted(),
    "equal": scripted(equal=0.1),
    "skip": scripted(skip=0.1),
    "myopic": scripted(discount=0.9),
    "mistake": scripted(mistake=0.1),
    "stochastic": scripted(rationality=1.0),
    "random": scripted(rationality=0.0),
    "person": outside,
    "judge": outside,
}
"""The six teachers of B-Pref with its default flaws, one that answers at random, for controls; a person and a judge."""

__all__ = ["Answers", "ScoreFn", "TEACHERS", "Teacher", "TeacherName", "outside", "scripted"]


def __dir__() -> list[str]:
    return sorted(__all__)
