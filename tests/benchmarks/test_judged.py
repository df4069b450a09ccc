"""The scripted judge of the benchmark reads what the template writes."""

import functools

import numpy as np
import pytest

import jaxrl
from benchmarks.judge_server import last_step, letter
from jaxrl.feedback.judge import names_of, template
from jaxrl.feedback.judge_server import pair_question

ENV, PARAMS = jaxrl.make("CartPole-v1")
TEXTS = template(jaxrl.spec(ENV, PARAMS), names_of(ENV))


@functools.cache
def attempt(length, rows=25):
    return TEXTS.segment(np.full((rows, 4), length / 10), np.zeros(rows, int), np.arange(rows) < length)


def test_the_longer_attempt_is_better_and_a_share_of_pairs_is_judged_wrongly_in_both_orders():
    assert [last_step(attempt(length)) for length in (1, 9, 25)] == [1, 9, 25]
    asked = lambda one, other, mistake: letter(pair_question("Last.", attempt(one), attempt(other)), mistake)  # noqa: E731
    assert [asked(9, 3, 0.0), asked(3, 9, 0.0), asked(25, 25, 0.0), asked(9, 3, 1.0)] == ["A", "B", "C", "B"]
    pairs = [(one, other) for one in range(1, 26) for other in range(1, one)]
    said = [(asked(*pair, 0.1), asked(*pair[::-1], 0.1)) for pair in pairs]
    assert all(both in ("AB", "BA") for both in map("".join, said))
    assert np.mean([one == "B" for one, _ in said]) == pytest.approx(0.1, abs=0.05)
