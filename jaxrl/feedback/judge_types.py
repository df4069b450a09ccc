"""The types of judges, which compare two texts or score one. Legend of shapes: N texts or pairs of texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxrl.arguments import check_callable

Pair = tuple[str, str]

TIE = 0.1
"""The largest distance of a preference from 1/2 that counts as a tie when flips are counted."""


class JudgeError(RuntimeError):
    """A judge can't work as it was set up, and asking again would not help."""


class Opinions(NamedTuple):
    """The answers of a judge, as NumPy arrays.

    Attributes:
      value: ``[N]`` float32: for pairs the preference for the first, 1/2 for a tie; for single texts a score, higher
        is better. It has no meaning where none is given.
      given: ``[N]`` bool, False where the judge gave no answer that can be read: the question is skipped.
      waiting: ``[N]`` bool, where the judge could not be asked now and may be asked again.
    """

    value: np.ndarray
    given: np.ndarray
    waiting: np.ndarray


class Judge(NamedTuple):
    """Compares texts, or scores them.

    Attributes:
      compare: ``pairs -> Opinions``, in the order in which each pair is given.
      score: ``texts -> Opinions``.
    """

    compare: Callable[[Sequence[Pair]], Opinions]
    score: Callable[[Sequence[str]], Opinions]


class Verdicts(NamedTuple):
    """The answers of a judge that was asked about pairs in both orders, as NumPy arrays.

    Attributes:
      label: ``[N]`` float32, the mean preference for the first over both orders.
      given: ``[N]`` bool, whether both orders have an answer; a skipped pair has none.
      waiting: ``[N]`` bool, the pairs to ask about again.
      decided: ``[N]`` bool, whether neither answer is a tie, nor within ``TIE`` of one.
      flipped: ``[N]`` bool, where both prefer the text in the same place, and so contradict each other.
    """

    label: np.ndarray
    given: np.ndarray
    waiting: np.ndarray
    decided: np.ndarray
    flipped: np.ndarray

    @property
    def flip_rate(self) -> float:
        """The fraction of decided pairs whose answers contradict each other; NaN without any."""
        return float(self.flipped.sum() / self.decided.sum()) if self.decided.any() else float("nan")


def opinions(values: Sequence[float | None], waiting: Sequence[bool] | None = None) -> Opinions:
    """Opinions from values, None for a skipped or a waiting question."""
    given = np.array([value is not None for value in values], bool)
    numbers = np.array([0.0 if value is None else value for value in values], np.float32)
    return Opinions(numbers, given, np.zeros(len(values), bool) if waiting is None else np.array(waiting, bool))


def in_both_orders(judge: Judge, pairs: Sequence[Pair]) -> Verdicts:
    """Asks about each pair in both orders, because language models favour a place.

    A contradiction is a tie of the two answers, and so says nothing (Zheng et al. 2023, "Judging LLM-as-a-judge with
    MT-Bench", arXiv:2306.05685). A pair with one skipped answer is skipped.

    >>> first_place = function(lambda first, second: 1.0)
    >>> in_both_orders(first_place, [("x", "y")]).label.tolist()
    [0.5]
    """
    both = judge.compare([*pairs, *((second, first) for first, second in pairs)])
    one, other = ([leaf[: len(pairs)] for leaf in both], [leaf[len(pairs) :] for leaf in both])
    first, swapped = one[0], 1.0 - other[0]
    given = one[1] & other[1]
    decided = given & (np.abs(first - 0.5) > TIE) & (np.abs(swapped - 0.5) > TIE)
    label = np.where(given, 0.5 * (first + swapped), 0.5).astype(np.float32)
    return Verdicts(label, given, one[2] | other[2], decided, decided & ((first > 0.5) != (swapped > 0.5)))


def by_scores(judge: Judge, pairs: Sequence[Pair]) -> Verdicts:
    """Compares the scores of two texts, each of which is scored once: the higher one wins, equal ones are a tie."""
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    place = {text: index for index, text in enumerate(texts)}
    first, second = (np.array([place[pair[side]] for pair in pairs], int) for side in (0, 1))
    scores = judge.score(texts)
    gap = scores.value[first] - scores.value[second]
    given = scores.given[first] & scores.given[second]
    label = np.where(given, 0.5 * (1.0 + np.sign(gap)), 0.5).astype(np.float32)
    waiting = scores.waiting[first] | scores.waiting[second]
    return Verdicts(label, given, waiting, given & (gap != 0.0), np.zeros(len(pairs), bool))


def function(
    compare: Callable[[str, str], float | None] | None = None, score: Callable[[str], float | None] | None = None
) -> Judge:
    """A Python function as a judge; give one of the two.

    Args:
      compare: ``(first, second) ->`` the preference for the first in [0, 1], or None to skip.
      score: ``text ->`` a number, the higher the better, or None to skip. Pairs are then compared by their scores.

    Raises:
      TypeError: neither is given, or one is no function.
      ValueError: (when asked) a preference is outside [0, 1], or a score is not finite.
    """
    if (compare is None) == (score is None):
        raise TypeError("function: got both or none of compare and score, must be one of them")
    name, given = ("compare", compare) if score is None else ("score", score)
    check_callable(name, given, "a function of texts")

    def checked(value: float | None) -> float | None:
        right = value is None or (0.0 <= value <= 1.0 if score is None else np.isfinite(value))
        if not right:
            allowed = "a preference in [0, 1]" if score is None else "a finite number"
            raise ValueError(f"{name}: returned {value}, must be {allowed}, or None to skip")
        return None if value is None else float(value)

    def score_all(texts: Sequence[str]) -> Opinions:
        if score is None:
            raise JudgeError("judge: compares and does not score; give function(score=...), or compare pairs")
        return opinions([checked(score(text)) for text in texts])

    def compare_all(pairs: Sequence[Pair]) -> Opinions:
        if compare is not None:
            return opinions([checked(compare(first, second)) for first, second in pairs])
        found = by_scores(Judge(compare_all, score_all), pairs)
        return Opinions(found.label, found.given, found.waiting)

    return Judge(compare_all, score_all)
