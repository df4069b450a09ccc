"""Judges on OpenAI-compatible servers: the questions, the forms of answers, and how they are read.

A server is asked for one token with the probabilities of its alternatives ("logprobs"); for JSON by a schema ("json")
where it has none; for text with a pattern ("pattern") where it knows neither. Which of them works is tried out once and
noted in the cache. An answer that is cut or can't be read is skipped, as is a
question that the budget has no call for.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast, get_args

from jaxrl.arguments import NON_NEGATIVE, Range, check_count, check_float
from jaxrl.feedback.judge_client import Client, Reply
from jaxrl.feedback.judge_types import Judge, JudgeError, Opinions, Pair, opinions

Form = Literal["logprobs", "json", "pattern"]

LETTERS = ("A", "B", "C")
"""The first is better, the second is, or neither."""

DIGITS = tuple("0123456789")

LEAST_MASS = 0.5
"""The least probability of all answers together; with less, the model would have said something else."""

TOP = 20
"""The number of alternatives to a token that a server is asked for, the most that servers allow."""

HOPELESS = (401, 403, 404)
"""HTTP statuses that no other form of the question would change: no right, no such model."""

PROBE = ("The task was solved at once, without a mistake.", "The task was not solved, and everything was broken.")

ENDINGS: Mapping[Form, str] = {
    "logprobs": "Answer with this one character only.",
    "json": 'Answer with JSON of the form {{"answer": "{example}"}}.',
    "pattern": 'End your reply with a line of the form "Answer: {example}".',
}


def server(
    client: Client,
    model: str,
    task: str,
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    max_tokens: int = 512,
) -> Judge:
    """A language model on an OpenAI-compatible server as a judge.

    By "logprobs" the preference for the first text is ``(p(A) + p(C) / 2) / (p(A) + p(B) + p(C))``, C for a tie, and a
    score the mean digit over 9, as in G-Eval (Liu et al. 2023, arXiv:2303.16634). The other forms say A, B or C.

    Args:
      client: of the server.
      model: the name of the model.
      task: a sentence about what a good text shows, such as "Keep the pole upright for as long as possible."
      temperature, top_p: always sent, because servers have defaults of their own.
      max_tokens: of an answer that is not one token; always sent.

    Raises:
      TypeError, ValueError: an argument is outside its range; the message names it.
      JudgeError: (when asked) the server refuses the questions.
    """
    for name, text in (("model", model), ("task", task)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name}: got {text!r}, must be a text that is not empty")
    check_float("temperature", temperature, NON_NEGATIVE)
    check_float("top_p", top_p, Range("(0, 1]"))
    check_count("max_tokens", max_tokens)

    sampling = {"model": model, "temperature": temperature, "top_p": top_p}

    def ask(questions: Sequence[str], answers: Sequence[str], value: Callable[[dict[str, float]], float]) -> Opinions:
        if not questions:
            return opinions([])
        form = known_form(client, sampling, max_tokens)
        if isinstance(form, Reply):
            return opinions([None] * len(questions), [form.status == "unreachable"] * len(questions))
        replies = client.ask([_body(form, question, answers, sampling, max_tokens) for question in questions])
        refusals = [reply for reply in replies if reply.status == "refused"]
        hopeless = [reply for reply in refusals if reply.code in HOPELESS or len(refusals) == len(replies)]
        if hopeless:  # else it is one question, which is too long for instance, and it is skipped
            raise _refusal(hopeless[0])
        bodies = (reply.body for reply in replies)
        read = [None if body is None else read_answer(form, body["choices"][0], answers) for body in bodies]
        waiting = [reply.status == "unreachable" for reply in replies]
        return opinions([None if found is None else value(found) for found in read], waiting)

    def compare(pairs: Sequence[Pair]) -> Opinions:
        return ask([pair_question(task, *pair) for pair in pairs], LETTERS, lambda p: p["A"] + 0.5 * p["C"])

    def score(texts: Sequence[str]) -> Opinions:
        mean = lambda p: sum(int(digit) * share for digit, share in p.items()) / 9.0  # noqa: E731
        return ask([single_question(task, text) for text in texts], DIGITS, mean)

    return Judge(compare, score)


def _body(
    form: Form, question: str, answers: Sequence[str], sampling: Mapping[str, Any], max_tokens: int
) -> dict[str, Any]:
    """A request; ``sampling`` has the model and how it samples."""
    content = f"{question}\n{ENDINGS[form].format(example=answers[0])}"
    request = {**sampling, "messages": [{"role": "user", "content": content}]}
    if form == "logprobs":
        return request | {"max_tokens": 1, "logprobs": True, "top_logprobs": TOP}
    if form == "json":
        request["response_format"] = {"type": "json_schema", "json_schema": _schema(answers)}
    return request | {"max_tokens": max_tokens}


def known_form(client: Client, sampling: Mapping[str, Any], max_tokens: int) -> Form | Reply:
    """The form of answers that a server knows, tried out unless it is noted; or the reply why that is not known now.

    Args:
      client: of the server.
      sampling: the model, temperature and top_p of requests.
      max_tokens: of an answer that is not one token.

    Raises:
      JudgeError: the server refuses every form.
    """
    name = f"form of {client.url} {json.dumps(sampling, sort_keys=True)}"
    noted = client.cache.fact(name)
    if noted in get_args(Form):
        return cast(Form, noted)
    found: Form = "pattern"
    forms: tuple[Form, Form] = ("logprobs", "json")
    for form in forms:
        question = pair_question("Solve the task.", *PROBE)
        reply = client.ask([_body(form, question, LETTERS, sampling, max_tokens)])[0]
        if reply.status in ("unreachable", "spent"):
            return reply
        if reply.status == "refused" and reply.code in HOPELESS:
            raise _refusal(reply)
        if reply.body is not None and _works(form, reply.body["choices"][0]):
            found = form
            break
    client.cache.note(name, found)
    return found


def _refusal(reply: Reply) -> JudgeError:
    hint = {401: "; the key is the environment variable JAXRL_JUDGE_KEY", 404: "; look at the address and the model"}
    return JudgeError(f"the judge's server refuses the question: {reply.problem}{hint.get(reply.code, '')}")


def pair_question(task: str, first: str, second: str) -> str:
    """The question about a pair, without the form of the answer."""
    return (
        f"Two attempts at a task are compared. The task: {task}\n\nAttempt A:\n{first}\n\nAttempt B:\n{second}\n\n"
        "Which attempt is better, A or B? C stands for neither."
    )


def single_question(task: str, text: str) -> str:
    """The question about one text, without the form of the answer."""
    return (
        f"An attempt at a task is graded. The task: {task}\n\nThe attempt:\n{text}\n\nGrade it from 0 to 9, the best."
    )


def _schema(answers: Sequence[str]) -> dict[str, Any]:
    of_answer = {"type": "string", "enum": list(answers)}
    schema = {"type": "object", "properties": {"answer": of_answer}, "required": ["answer"]}
    return {"name": "answer", "strict": True, "schema": schema | {"additionalProperties": False}}


def _works(form: Form, choice: Mapping[str, Any]) -> bool:
    found = _by_logprobs(choice, LETTERS) if form == "logprobs" else read_answer(form, choice, LETTERS)
    return found is not None


def read_answer(form: Form, choice: Mapping[str, Any], answers: Sequence[str]) -> dict[str, float] | None:
    """The probability of each answer, which sum to 1; None for what is cut or can't be read.

    Args:
      form: how the server was asked.
      choice: the reply's ``choices[0]``.
      answers: the allowed ones.
    """
    if form == "logprobs":
        found = _by_logprobs(choice, answers)
        if found is not None:
            return found
        if choice.get("logprobs"):  # it would have said something else
            return None
    elif choice.get("finish_reason") not in ("stop", None):
        return None
    content = choice["message"].get("content") or ""
    said = _by_json(content) if form == "json" else _by_pattern(content, answers)
    return {answer: float(answer == said) for answer in answers} if said in answers else None


def _by_logprobs(choice: Mapping[str, Any], answers: Sequence[str]) -> dict[str, float] | None:
    """Probabilities from the alternatives to the first token, where they are there and cover the answers."""
    mass = dict.fromkeys(answers, 0.0)
    try:
        for each in choice["logprobs"]["content"][0]["top_logprobs"]:
            answer, share = each["token"].strip(" \n\t.:\"'`*").upper(), math.exp(min(float(each["logprob"]), 0.0))
            if answer in mass and share <= 1.0:
                mass[answer] += share
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None
    total = sum(mass.values())
    return {answer: share / total for answer, share in mass.items()} if total >= LEAST_MASS else None


def _by_json(content: str) -> str | None:
    try:
        return str(json.loads(content)["answer"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _by_pattern(content: str, answers: Sequence[str]) -> str | None:
    """The answer after the last "Answer:", or that which is all there is."""
    allowed = f"([{''.join(answers)}])"
    alone = re.fullmatch(rf"\W*{allowed}\W*", content)
    said = [*([alone] if alone else re.finditer(rf"(?i:answer)\W*(?::|(?i:is))\W*{allowed}\b", content))]
    return said[-1].group(1) if said else None
