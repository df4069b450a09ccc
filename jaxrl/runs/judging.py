"""A judge that answers the questions of a run between chunks of updates: teacher "judge"."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxrl.feedback import judge as judges
from jaxrl.feedback.judge import Cache, Client, Judge, Limits, Reply, Texts
from jaxrl.feedback.judge_server import known_form
from jaxrl.runs.config import RunConfig
from jaxrl.runs.errors import ConfigError
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.questions import Question, Questions
from jaxrl.types import Observation, Spec

TEACHER = "judge"
"""The teacher of such a run, and who gave its answers in labels.sqlite."""

PREFIX = "judge_"
"""The settings of ``feedback`` that are the judge's."""

_OF_SERVER = ("url", "top_p")

BLOCK = 32
"""Questions that are put to the judge at once, and written down together."""

Say = Callable[[str], None]


class Judged(NamedTuple):
    """A judge of one's own, with what it reads, in place of a server.

    Attributes:
      judge: compares or scores.
      texts: writes segments; None for the template with the names of the environment.
    """

    judge: Judge
    texts: Texts | None = None


class JudgeAnswers:
    """Answers the open questions of a run by a judge.

    An answer is in labels.sqlite at once, and what a server said in judge.sqlite, so that nothing is paid twice.
    Questions that can't be answered now stay open.
    """

    def __init__(self, judge: Judge, probe: Callable[[], Any], texts: Texts, by_scores: bool, cache: Cache) -> None:
        self._judge, self._probe, self._texts, self._by_scores, self._cache = judge, probe, texts, by_scores, cache
        self._is_away = False

    def try_out(self, say: Say) -> None:
        """Tries out the judge before anything is trained.

        Raises:
          JudgeError: it refuses.
        """
        found = self._probe()
        if isinstance(found, Reply):
            say(f"the judge can't be asked now ({found.problem}); it is asked again at each pause")
        elif found is not None:
            say(f"the judge answers by {found}")

    def answer(self, questions: Questions, say: Say) -> None:
        """Answers what can be answered now.

        Raises:
          JudgeError: the judge refuses, and would again.
        """
        numbers, done = questions.open(), 0
        for begin in range(0, len(numbers), BLOCK):
            asked = [each for each in map(questions.get, numbers[begin : begin + BLOCK]) if each is not None]
            compare = judges.by_scores if self._by_scores else judges.in_both_orders
            found = compare(self._judge, [self._pair(question) for question in asked])
            for index in np.flatnonzero(~found.waiting):
                label = float(found.label[index]) if found.given[index] else None
                done += questions.answer(asked[index].id, label, TEACHER)
            for name, more in (("decided", found.decided), ("flipped", found.flipped)):
                self._cache.note(name, str(self._noted(name) + int(more.sum())))
            if found.waiting.any():
                break
        left = len(questions.open())
        if left and not self._is_away:
            say(f"the judge can't be asked now; {left} questions wait, and it is asked again at each pause")
        self._is_away = left > 0
        if done:
            say(self.report(questions))

    def report(self, questions: Questions) -> str:
        """A line about what the judge did so far, in all sittings of the run."""
        counts, decided = questions.counts(), self._noted("decided")
        parts = [f"judge: {counts.done} of {counts.asked} questions answered, {counts.skipped} of them skipped"]
        if decided and not self._by_scores:
            parts.append(f"{self._noted('flipped') / decided:.0%} of {decided} pairs flip with their order")
        return "; ".join([*parts, *([f"{self._cache.calls} calls"] if self._cache.calls else [])])

    def _pair(self, question: Question) -> tuple[str, str]:
        told = question.segments
        of_parts = {name: told.get(f".observation.{name}") for name in ("features", "goal")}
        first, second = (
            self._texts.segment(
                told[".observation"][side]
                if ".observation" in told
                else Observation(**{name: None if leaf is None else leaf[side] for name, leaf in of_parts.items()}),
                told[".action"][side],
                told[".mask"][side],
            )
            for side in (0, 1)
        )
        return first, second

    def _noted(self, name: str) -> int:
        return int(self._cache.fact(name) or 0)


def settings_of(config: RunConfig) -> dict[str, Any] | None:
    """The settings of the feedback of a run whose teacher is a judge; None for any other run."""
    chosen = config.parts.get("feedback")
    return None if chosen is None or chosen.settings.get("teacher") != TEACHER else chosen.settings


def check(config: RunConfig, own: Judge | Judged | None, env: Any, spec: Spec) -> None:
    """Checks that there is a judge where one is wanted, and only there, before anything is written.

    Args:
      config: of the run.
      own: a judge from Python.
      env, spec: the environment and its spec.

    Raises:
      ConfigError: the message names the argument.
    """
    settings = settings_of(config)
    if settings is not None:
        _made(config, settings, own, env, spec, Cache())
        return
    given = config.parts["feedback"].settings if "feedback" in config.parts else {}
    told = [(name, given[name]) for name in ("judge_url", "judge_model", "judge_task") if given.get(name)]
    for name, value in [*told, *([] if own is None else [("judge", type(own).__name__)])]:
        raise ConfigError(f"{name}: got {value}, which only teacher 'judge' has; give --teacher judge, or leave it out")


def make(folder: RunFolder, config: RunConfig, own: Judge | Judged | None, env: Any, spec: Spec) -> JudgeAnswers | None:
    """The judge of a run; None for a run without one.

    Args:
      folder: the run's, which exists.
      config, own, env, spec: see ``check``.

    Raises:
      ConfigError: see ``check``.
      OSError: judge.sqlite can't be written.
    """
    settings = settings_of(config)
    return None if settings is None else _made(config, settings, own, env, spec, Cache(folder.judge_file))


def _made(
    config: RunConfig, settings: dict[str, Any], own: Judge | Judged | None, env: Any, spec: Spec, cache: Cache
) -> JudgeAnswers:
    if own is not None and not isinstance(own, (Judge, Judged)):
        raise ConfigError(f"judge: got {type(own).__name__}, must be a Judge such as feedback.judge.function(compare)")
    judged = Judged(own) if isinstance(own, Judge) else own
    by_scores = settings["judge_asks"] == "scores"
    try:
        texts = None if judged is None else judged.texts
        texts = texts or judges.template(spec, judges.names_of(env), every=settings["judge_every"])
        if judged is not None:
            return JudgeAnswers(judged.judge, lambda: None, texts, by_scores, cache)
        return JudgeAnswers(*_on_server(config, settings, env, cache), texts, by_scores, cache)
    except (ImportError, TypeError, ValueError) as error:
        raise ConfigError(f"{PREFIX}{error}" if str(error).startswith(_OF_SERVER) else str(error)) from error


def _on_server(config: RunConfig, settings: dict[str, Any], env: Any, cache: Cache) -> tuple[Judge, Callable[[], Any]]:
    """The judge on a server, and the function that tries it out."""
    for name, what in (("judge_url", "http://127.0.0.1:8000/v1"), ("judge_model", "the name that the server gives it")):
        if not settings[name]:
            raise ConfigError(f"{name}: got none, must be given for teacher 'judge': {what}; in Python, judge= will do")
    task = settings["judge_task"] or judges.names_of(env).task
    if not task:
        raise ConfigError(
            f"judge_task: none is known for {config.environment}, must be a sentence about what is good: --judge-task"
        )
    limits = Limits(
        total=settings["judge_seconds"], concurrency=settings["judge_concurrency"], calls=settings["judge_calls"]
    )
    client, model = Client(settings["judge_url"], limits=limits, cache=cache), settings["judge_model"]
    sampling = {name: settings[f"judge_{name}"] for name in ("temperature", "top_p")}
    most = settings["judge_max_tokens"]
    judge = judges.server(client, model, task, **sampling, max_tokens=most)
    return judge, lambda: known_form(client, {"model": model, **sampling}, most)


def with_server(config: RunConfig, **changes: Any) -> RunConfig:
    """The configuration with the given settings of its judge; None leaves one as it is.

    Raises:
      ConfigError: the run has no judge.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    if not given:
        return config
    settings = settings_of(config)
    if settings is None:
        name, value = next(iter(given.items()))
        raise ConfigError(f"{name}: got {value}, but the run has no teacher 'judge'; leave it out")
    chosen = config.parts["feedback"]
    new = dataclasses.replace(chosen, settings={**settings, **given})
    return dataclasses.replace(config, parts={**config.parts, "feedback": new})
