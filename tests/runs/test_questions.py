"""The file of questions and answers: leases, answers, undo, and what a run takes up when."""

import threading

import numpy as np
import pytest

from jaxrl.runs.questions import Counts, Questions


@pytest.fixture
def questions(tmp_path):
    """Three questions that were asked at update 10."""
    questions = Questions(tmp_path / "labels.sqlite")
    for row in range(3):
        questions.add(0, row, 10, {"x": np.arange(4) + row})
    return questions


def test_a_question_is_asked_once_and_stays_what_it_was(questions):
    kept = questions.add(0, 1, 12, {"x": np.zeros(4)})
    np.testing.assert_array_equal(kept["x"], np.arange(4) + 1)
    assert questions.counts() == Counts(3, 0, 0) and questions.open() == [1, 2, 3]
    np.testing.assert_array_equal(questions.get(3).segments["x"], np.arange(4) + 2)
    assert questions.get(4) is None and questions.get(2)[:3] == (2, 0, 1)
    assert [questions.open_before(update) for update in (10, 11)] == [0, 3] and questions.last_event() == 10


def test_two_people_get_different_questions_and_the_first_answer_stands(questions):
    assert [questions.lease(who, 10) for who in ("a", "b", "a", "c", "d")] == [1, 2, 1, 3, None]
    assert questions.answer(1, 1.0, "a") and not questions.answer(1, 0.0, "b") and not questions.answer(9, 0.0, "b")
    assert questions.lease("a", 10) is None and questions.open() == [2, 3]


def test_a_lease_ends(questions):
    assert [questions.lease("a", -1.0), questions.lease("b", 10)] == [1, 1]


def test_undo_gives_the_last_question_back_to_whoever_answered_it(questions):
    questions.answer(1, 1.0, "a"), questions.answer(2, 0.0, "b"), questions.answer(3, None, "a")
    assert questions.counts() == Counts(3, 3, 1)
    assert questions.undo("a") == 3 and questions.lease("a", 10) == 3 and questions.lease("b", 10) is None
    assert questions.undo("nobody") is None and questions.counts() == Counts(3, 2, 0)


def test_answers_are_taken_up_once_and_again_where_they_changed(questions):
    questions.answer(1, 1.0, "a"), questions.answer(2, None, "a")
    assert [questions.take(20), questions.take(21)] == [2, 0]
    assert questions.taken(19) == {} and questions.taken(20) == {(0, 0): 1.0, (0, 1): None}
    questions.undo("a"), questions.undo("a")
    assert questions.take(22) == 2 and questions.taken(22) == {(0, 0): None, (0, 1): None}
    questions.answer(1, 0.5, "a")
    assert questions.take(23) == 1 and questions.taken(25)[0, 0] == 0.5 and questions.last_event() == 23
    assert questions.taken(21) == {(0, 0): 1.0, (0, 1): None}, "the past does not change"


def test_a_file_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "labels.sqlite").write_text("no database" * 100)
    for path, reason in ((tmp_path / "labels.sqlite", "not a database"), (tmp_path / "no" / "x", "unable to open")):
        with pytest.raises(OSError, match=reason) as caught:
            Questions(path).counts()
        assert caught.value.filename == str(path)


def test_many_at_once_answer_each_question_once(tmp_path):
    questions = Questions(tmp_path / "labels.sqlite")
    for row in range(12):
        questions.add(0, row, 1, {"x": np.zeros(1)})
    stored = []

    def person(who):
        mine = Questions(questions.path)
        while (number := mine.lease(who, 60)) is not None:
            stored.append((number, mine.answer(number, 1.0, who)))

    people = [threading.Thread(target=person, args=(str(i),)) for i in range(3)]
    [each.start() for each in people], [each.join() for each in people]
    assert sorted(stored) == [(number, True) for number in range(1, 13)]
