"""Between chunks: a run with an outside teacher asks its questions and takes up the answers.

At the end of each chunk, new queries in the state of ``preferences`` become questions in ``labels.sqlite``, and new
answers are written into the state, which the next update fits to. The update of each answer is recorded, so that a run
that is resumed takes up the same answers at the same updates. If a question was asked before a resume and is asked
again differently, on another device for example, the question in the file stands, with its answer.
"""

from __future__ import annotations

import collections
import functools
import operator
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.feedback import teachers
from jaxrl.feedback.preferences import PreferencesState
from jaxrl.runs.config import RunConfig
from jaxrl.runs.errors import ConfigError
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.questions import Arrays, Questions
from jaxrl.training.loop import TrainState
from jaxrl.types import PyTree

POLL_SECONDS = 0.5
"""Seconds between two looks for answers while a run waits."""


class Pair(NamedTuple):
    """The two segments of a question, leaves ``[2, L, ...]``; fields as in ``Comparisons``."""

    observation: Any
    action: Any
    mask: Any


def teacher_of(config: RunConfig) -> str | None:
    """The name of the teacher of a run whose answers come from outside; None for any other run."""
    chosen = config.parts.get("feedback")
    name = None if chosen is None else chosen.settings.get("teacher")
    return name if name in teachers.TEACHERS and teachers.TEACHERS[name] is teachers.outside else None


def check(config: RunConfig) -> None:
    """Refuses what can't take up answers between chunks.

    Raises:
      ConfigError: the message names the argument.
    """
    teacher = teacher_of(config)
    for name, one in (("devices", 1), ("seed_devices", 1), ("workers", 0)):
        if teacher is not None and getattr(config, name) != one:
            got = getattr(config, name)
            raise ConfigError(f"{name}: got {got}, must be {one} with teacher '{teacher}', who answers between chunks")


def next_session(config: RunConfig, done: int) -> int | None:
    """The update of a phase that asks next after ``done`` updates; None if nothing is asked from outside."""
    steps = config.num_envs * config.rollout_length
    if teacher_of(config) is None or not steps:
        return None
    settings = config.parts["feedback"].settings
    interval = settings["query_interval"]
    first = settings["pretraining"] or interval
    sessions = max((done * steps - first) // interval + 1, 0)  # so far
    return max(-(-(first + sessions * interval) // steps), done + 1)


class OutsideAnswers:
    """Asks and takes up answers for a run.

    Args:
      folder: of the run.
      say: prints a line.
      interrupted: whether the run should stop waiting.
      answer: ``(questions) -> None``, answers open questions itself, such as a judge; called at each pause.
      how: what to do to answer, for the line that says that the run waits.
    """

    def __init__(
        self,
        folder: RunFolder,
        say: Callable[[str], None],
        interrupted: Callable[[], bool],
        answer: Callable[[Questions], None] = lambda questions: None,
        how: str | None = None,
    ) -> None:
        self.questions = Questions(folder.labels_file)
        self._say, self._interrupted, self._answer = say, interrupted, answer
        self._how = how or f"jaxrl label {folder.path}"
        self._known: dict[int, int] = collections.defaultdict(int)  # rows of each member that are in the file

    def exchange(self, state: TrainState, update: int, *, wait: bool) -> TrainState:
        """Asks what the state's queries ask, and returns the state with the answers so far.

        Args:
          state: leaves ``[S, ...]``.
          update: updates of the run so far.
          wait: wait for answers to the questions of earlier sessions.
        """
        model: PreferencesState = reward_model(state)
        before = self.questions.last_event()
        model = self._asked(model, update)
        self._answer(self.questions)
        if update >= before:  # else it is repeated after a resume, and takes up what it took up then
            if wait:
                self._wait(update)
            self.questions.take(update)
        model = _answered(model, self.questions.taken(update))
        return with_reward_model(state, model)

    def _asked(self, model: PreferencesState, update: int) -> PreferencesState:
        """The state after its new queries were written down, with the pairs of the file where they differ."""
        asked = np.asarray(model.comparisons.asked)
        new = [(member, row) for member in range(len(asked)) for row in range(self._known[member], asked[member])]
        pairs, differ = jax.device_get(_pairs(model)) if new else (), False
        for at in new:
            told = paths(jax.tree.map(operator.itemgetter(at), pairs))
            kept = self.questions.add(*at, update, told)
            if any(not np.array_equal(kept[name], leaf) for name, leaf in told.items()):
                pairs, differ = jax.tree.map(functools.partial(_put, at), pairs, like(pairs, kept)), True
        self._known.update(enumerate(map(int, asked)))
        if not differ:
            return model
        return model._replace(comparisons=model.comparisons._replace(**jax.tree.map(jnp.asarray, pairs)._asdict()))

    def _wait(self, update: int) -> None:
        """Waits until the questions of earlier sessions are done, or for an interrupt."""
        said = 0
        while (missing := self.questions.open_before(update)) and not self._interrupted():
            if not said:
                said = missing
                self._say(f"waiting for {missing} answers; give them with: {self._how}")
            time.sleep(POLL_SECONDS)
            self._answer(self.questions)
        if said and not missing:
            self._say(f"going on with {said} more answers")


def _put(at: tuple[int, int], leaf: np.ndarray, row: np.ndarray) -> np.ndarray:
    leaf = leaf.copy()
    leaf[at] = row
    return leaf


def _pairs(model: PreferencesState) -> Pair:
    return Pair(model.comparisons.observation, model.comparisons.action, model.comparisons.mask)


def _answered(model: PreferencesState, known: dict[tuple[int, int], float | None]) -> PreferencesState:
    """The state with the answers that the run knows; ``heard`` where one of them is new."""
    asked, heard = np.asarray(model.comparisons.asked), np.array(model.heard)
    label, given = np.array(model.comparisons.label), np.array(model.comparisons.given)
    for (member, row), answer in known.items():
        before = label[member, row] if given[member, row] else None
        if row < asked[member] and before != answer:
            label[member, row], given[member, row] = 0.5 if answer is None else answer, answer is not None
            heard[member] = True
    if not heard.any():
        return model
    comparisons = model.comparisons._replace(label=jnp.asarray(label), given=jnp.asarray(given))
    return model._replace(comparisons=comparisons, heard=jnp.asarray(heard))


def reward_model(state: PyTree) -> PreferencesState:
    """The state of ``preferences`` in a state that has one."""
    found = [leaf for leaf in jax.tree.leaves(state, is_leaf=_is_model) if _is_model(leaf)]
    return found[0]


def with_reward_model(state: PyTree, model: PreferencesState) -> PyTree:
    """The state with another state of ``preferences``."""
    return jax.tree.map(lambda leaf: model if _is_model(leaf) else leaf, state, is_leaf=_is_model)


def _is_model(leaf: Any) -> bool:
    return isinstance(leaf, PreferencesState)


def paths(tree: PyTree) -> Arrays:
    """The leaves by their paths, such as ``.observation.features``."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def like(tree: PyTree, arrays: Arrays) -> PyTree:
    """The tree with the arrays of ``paths`` as its leaves."""
    return jax.tree_util.tree_map_with_path(lambda path, _: arrays[jax.tree_util.keystr(path)], tree)
