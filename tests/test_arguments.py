"""Arguments are checked against their annotations, and unknown names come with the nearest right one."""

import collections
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.arguments import (
    Count,
    CountOrZero,
    InnerUnit,
    NonNegative,
    Positive,
    Real,
    TracedCount,
    Unit,
    allowed,
    check_argument,
    nearest,
)


class Rule(typing.Protocol):
    def __call__(self, key: Any) -> Any: ...


Point = collections.namedtuple("Point", "x")
Point.__module__ = __name__

ALLOWED = [
    (Real, -3.0),
    (Real, 2),
    (NonNegative, 0.0),
    (Positive, np.float32(0.1)),
    (Positive, jnp.float32(0.1)),
    (Unit, 1.0),
    (Unit | None, None),
    (float, 1e30),
    (Count, 1),
    (Count, np.int64(7)),
    (CountOrZero, 0),
    (TracedCount, jnp.int32(3)),
    (int, -4),
    (int | None, None),
    (bool, False),
    (bool, np.True_),
    (str, "x"),
    (Literal["a", "b"], "b"),
    (Callable[[int], int], len),
    (Rule, len),
    (str | Rule, len),
    (str | Rule, "gumbel"),
    (tuple[int, ...], (1, 2)),
    (Sequence[Count], [1, 2]),
    (Mapping[str, Point], {"a": Point(1)}),
    (Point, Point(1)),
    (Any, "anything"),
]
REFUSED = [
    (Real, "1", TypeError, "must be a number"),
    (Real, float("nan"), ValueError, "nan"),
    (NonNegative, -0.5, ValueError, r"-0.5.*\[0, inf\)"),
    (Positive, 0.0, ValueError, r"0.0.*\(0, inf\)"),
    (Positive | None, 0, ValueError, r"0.*\(0, inf\)"),
    (InnerUnit, 1.0, ValueError, r"1.0.*\(0, 1\)"),
    (Unit, True, TypeError, "True"),
    (Unit, None, TypeError, "None"),
    (Unit, jnp.ones(2), TypeError, "must be a number"),
    (Positive | None, "x", TypeError, "'x'.*None"),
    (Count, 0, ValueError, "0.*at least 1"),
    (Count, 2.0, TypeError, r"2\.0.*integer"),
    (Count, jnp.int32(2), TypeError, "integer"),
    (TracedCount, jnp.float32(2), TypeError, "integer"),
    (TracedCount, 0, ValueError, "at least 1"),
    (TracedCount, jnp.array(0), ValueError, "got 0.*at least 1"),
    (TracedCount | None, np.array(-3), ValueError, "got -3.*at least 1"),
    (Count | None, True, TypeError, "True"),
    (CountOrZero, -1, ValueError, "-1.*at least 0"),
    (bool, 1, TypeError, "1.*True or False"),
    (bool, None, TypeError, "None.*True or False"),
    (str, 3, TypeError, "3.*a string"),
    (Literal["a", "b"], "c", ValueError, "'c'.*'a' or 'b'"),
    (Callable[[int], int], 3, TypeError, "3.*a function"),
    (Annotated[Callable[[int], int], "a loss"] | None, 3, TypeError, "3.*a loss, or None"),
    (str | Rule, 3, TypeError, "3.*a string or a function"),
    (tuple[int, ...], 3, TypeError, "3.*a tuple"),
    (Sequence[Count], [1, 0], ValueError, r"\[1\].*0"),
    (Mapping[str, Point], {"a": 3}, TypeError, r"\['a'\].*3"),
    (Mapping[str, Point], 3, TypeError, "3.*a dict"),
    (Point, 3, TypeError, "3.*a Point"),
    (Annotated[Point, "a point"], 3, TypeError, "3.*a point"),
]


@pytest.mark.parametrize(("hint", "value"), ALLOWED, ids=str)
def test_what_an_annotation_allows_passes(hint, value):
    check_argument("x", value, hint)


@pytest.mark.parametrize(("hint", "value", "error", "message"), REFUSED, ids=str)
def test_what_it_does_not_is_refused_by_name(hint, value, error, message):
    with pytest.raises(error, match=f"^x.*{message}"):
        check_argument("x", value, hint)


def test_floats_may_be_tracers_and_counts_only_where_said():
    def check(hint):
        jax.jit(lambda value: check_argument("x", value, hint))(1)

    for hint in (Unit, Unit | None, float, TracedCount, TracedCount | None, int):
        check(hint)
    for hint in (Count, CountOrZero | None, bool):
        with pytest.raises(TypeError, match="^x: got .*Tracer|^x: got JitTracer"):
            check(hint)


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (Unit, "a number in [0, 1]"),
        (NonNegative | None, "a number in [0, inf), or None"),
        (Real, "a number"),
        (Count, "an integer of at least 1"),
        (bool, "True or False"),
        (Literal["a", "b"], "'a' or 'b'"),
        (Annotated[Point, "a point"] | None, "a point, or None"),
        (Any, ""),
        (int | Any, ""),
    ],
    ids=str,
)
def test_annotations_are_written_as_words(hint, words):
    assert allowed(hint) == words


@pytest.mark.parametrize(
    ("word", "options", "right"),
    [
        ("gama", ("learning_rate", "gamma", "gae_lambda"), "gamma"),
        ("--LR", ("learning_rate", "gamma"), "learning_rate"),
        ("lr", ("--learning-rate", "--gamma"), "--learning-rate"),
        ("cartpole", ("Acrobot-v1", "CartPole-v1"), "CartPole-v1"),
        ("num_epoch", ("num_envs", "num_epochs"), "num_epochs"),
    ],
)
def test_the_nearest_name(word, options, right):
    assert nearest(word, options) == f", did you mean {right!r}?"


def test_no_name_is_near():
    assert nearest("seeds", ("learning_rate", "gamma", "num_epochs")) == ""
