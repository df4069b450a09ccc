"""Judges on servers: the form of answers is found once, and only what can be read is an answer."""

import math

import numpy as np
import pytest

from jaxrl.feedback.judge import Cache, Client, JudgeError, Limits, by_scores, in_both_orders, server
from tests.loopback import alternatives, free_port, reply, serving

FAST = Limits(connect=10.0, read=10.0, total=60.0, tries=2, backoff=0.01)


def longer(body):
    """The letter of the longer of the two attempts in a question; C for a tie."""
    text = body["messages"][0]["content"]
    first = text.split("Attempt A:\n")[1].split("\n\nAttempt B:")[0]
    second = text.split("Attempt B:\n")[1].split("\n\nWhich")[0]
    return "C" if len(first) == len(second) else "AB"[len(second) > len(first)]


def with_logprobs(body, number):
    if "logprobs" not in body:
        return (400, {"error": "not asked for"})
    letter = longer(body)
    other = "B" if letter == "A" else "A"
    return reply(
        letter, alternatives(**{letter: math.log(0.8), other: math.log(0.15), "The": math.log(0.05)}), "length"
    )


def with_json(body, number):
    if "logprobs" in body:
        return (400, {"error": {"message": "logprobs are not known here"}})
    return reply('{"answer": "%s"}' % longer(body)) if "response_format" in body else reply("?")  # noqa: UP031


def with_text(body, number):
    if "logprobs" in body:
        return reply("First", None, "length")
    return (422, {"error": "no response_format"}) if "response_format" in body else reply(f"... Answer: {longer(body)}")


@pytest.mark.parametrize(
    ("script", "form", "probes"), [(with_logprobs, "logprobs", 1), (with_json, "json", 2), (with_text, "pattern", 2)]
)
def test_the_form_of_answers_is_tried_out_once_and_noted(tmp_path, script, form, probes):
    pairs = [("aaaa", "b"), ("c", "dddd"), ("eee", "fff")]
    with serving(script) as answering:
        for cache in (Cache(tmp_path / "judge.sqlite"), Cache(tmp_path / "judge.sqlite")):
            judge = server(Client(answering.url, limits=FAST, cache=cache), "m", "Be long.", max_tokens=40)
            found = in_both_orders(judge, pairs)
            assert len(answering.requests) == probes + 6  # three pairs in two orders, and nothing again
    if form == "logprobs":
        share = 0.8 / 0.95
        np.testing.assert_allclose(found.label, [share, 1 - share, 0.5], atol=1e-6)
    else:
        np.testing.assert_array_equal(found.label, [1.0, 0.0, 0.5])
    assert found.given.all() and not found.flipped.any() and not found.waiting.any()
    for _, _, body in answering.requests:
        assert {"temperature", "top_p", "max_tokens"} <= body.keys()
        assert body["temperature"] == 0.0 and body["top_p"] == 1.0
    assert answering.requests[-1][2]["max_tokens"] == (1 if form == "logprobs" else 40)


@pytest.mark.parametrize(
    ("answer", "given"),
    [
        (reply("Answer: A"), True),
        (reply("**B**"), True),
        (reply("I think that the answer is: A\nNo. Answer: **B**."), True),
        (reply("Answer: A", finish="length"), False),
        (reply("Answer: A", finish="content_filter"), False),
        (reply("Both are good"), False),
        (reply("Answer: D"), False),
        (reply("Answer: Both"), False),
        (reply(""), False),
        (reply(None), False),
    ],
    ids=lambda value: repr(value["choices"][0]["message"]["content"]) if isinstance(value, dict) else "",
)
def test_what_is_cut_or_can_not_be_read_is_skipped_and_no_answer(answer, given):
    def script(body, number):
        return (400, b"{}") if "logprobs" in body or "response_format" in body else answer

    with serving(script) as answering:
        found = server(Client(answering.url, limits=FAST), "m", "Be good.").compare([("x", "y")])
    assert found.given.tolist() == [given] and not found.waiting.any()


@pytest.mark.parametrize(
    ("of_token", "expected"),
    [
        (alternatives(A=math.log(0.6), B=math.log(0.2), C=math.log(0.2)), 0.7),
        (alternatives(**{" a": math.log(0.3), "A": math.log(0.3), "B.": math.log(0.4)}), 0.6),
        (alternatives(A=math.log(0.3), Both=math.log(0.7)), None),  # it wants to say something else
        (alternatives(A=float("nan"), B=math.log(0.9)), 0.0),
        ({"content": []}, None),
        ({"content": [{"token": "A"}]}, None),
        (None, 1.0),  # without alternatives the token itself is the answer
    ],
)
def test_alternatives_to_one_token_are_a_preference(of_token, expected):
    probe = alternatives(A=-0.1)
    with serving(lambda body, number: reply("A", of_token if number else probe, "length")) as answering:
        found = server(Client(answering.url, limits=FAST), "m", "Be good.").compare([("x", "y")])
    assert found.given.tolist() == [expected is not None]
    if expected is not None:
        np.testing.assert_allclose(found.value, [expected], atol=1e-6)


def test_scores_are_mean_digits_and_compare():
    def script(body, number):
        if number == 0:
            return reply("A", alternatives(A=-0.01), "length")
        good = "good" in body["messages"][0]["content"].split("The attempt:")[1].split("\n\n")[0]
        return reply("8", alternatives(**{"9" if good else "1": math.log(0.5), "7" if good else "0": math.log(0.5)}))

    with serving(script) as answering:
        judge = server(Client(answering.url, limits=FAST), "m", "Be good.")
        np.testing.assert_allclose(judge.score(["a good one", "another"]).value, [8 / 9, 0.5 / 9], atol=1e-6)
        found = by_scores(judge, [("a good one", "another"), ("another", "a good one"), ("another", "another")])
        np.testing.assert_array_equal(found.label, [1.0, 0.0, 0.5])
        assert len(answering.requests) == 3  # each text is scored once


def test_the_budget_ends_in_skips():
    with serving(lambda body, number: reply("A", alternatives(A=-0.1), "length")) as answering:
        judge = server(Client(answering.url, limits=FAST._replace(calls=3)), "m", "Be good.")
        found = judge.compare([(str(number), "x") for number in range(4)])
        assert found.given.sum() == 2 and not found.waiting.any() and len(answering.requests) == 3


def test_one_question_that_is_refused_is_skipped_and_all_of_them_are_an_error():
    def script(body, number):
        return (400, {"error": "too long"}) if "long" in body["messages"][0]["content"] else reply("A", probe, "length")

    probe = alternatives(A=-0.1)
    with serving(script) as answering:
        judge = server(Client(answering.url, limits=FAST), "m", "Be good.")
        assert judge.compare([("x", "y"), ("long", "y")]).given.tolist() == [True, False]
        with pytest.raises(JudgeError, match="400"):
            judge.compare([("long", "y"), ("long", "z")])


def test_a_judge_that_is_away_lets_pairs_wait_and_a_wrong_key_ends_it():
    away = server(Client(f"http://127.0.0.1:{free_port()}/v1", limits=FAST), "m", "Be good.")
    found = in_both_orders(away, [("x", "y")])
    assert found.waiting.all() and not found.given.any()
    for status, part in ((401, "JAXRL_JUDGE_KEY"), (404, "model")):
        with serving(lambda body, number, status=status: (status, {"error": "no"})) as answering:
            judge = server(Client(answering.url, limits=FAST), "m", "Be good.")
            with pytest.raises(JudgeError, match=str(status)) as raised:
                judge.compare([("x", "y")])
            assert part in str(raised.value) and len(answering.requests) == 1
            assert judge.compare([]).value.shape == (0,)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"task": " "}, "task: got ' '"),
        ({"model": ""}, "model: got ''"),
        ({"temperature": -0.5}, "temperature: got -0.5"),
        ({"top_p": 0.0}, "top_p: got 0.0"),
        ({"max_tokens": 0}, "max_tokens: got 0"),
    ],
)
def test_settings_outside_their_range_are_refused_by_name(change, part):
    with pytest.raises(ValueError, match=part):
        server(Client("http://127.0.0.1:1/v1"), **{"model": "m", "task": "Be good.", **change})
