"""Answers to a run's questions by letters in the terminal."""

from __future__ import annotations

import uuid

from rich.console import Console

from jaxrl.runs.clips import Clips
from jaxrl.runs.questions import Questions

LABELS = {"l": 1.0, "r": 0.0, "e": 0.5, "s": None}
"""The answers: the left one, the right one, equally good, and skipped."""

LEASE_SECONDS = 600.0


def ask(questions: Questions, clips: Clips, console: Console) -> int:
    """Asks until there is no open question, or until the answer is q; returns the exit code."""
    who = uuid.uuid4().hex
    while (number := questions.lease(who, LEASE_SECONDS)) is not None:
        question, counts = questions.get(number), questions.counts()
        assert question is not None
        console.print(f"\nquestion {counts.done + 1} of {counts.asked}", highlight=False)
        console.print(clips.text(question), markup=False, highlight=False, soft_wrap=True)
        letter = _letter(console)
        if letter in LABELS:
            questions.answer(number, LABELS[letter], who)
        elif letter == "u":
            if questions.undo(who) is None:
                console.print("there is nothing to undo")
        else:
            return 0
    counts = questions.counts()
    console.print(f"{counts.done} of {counts.asked} questions are done, and none is open now; the run may ask more")
    return 0


def _letter(console: Console) -> str:
    """The first letter of an answer; q at the end of the input."""
    while True:
        try:
            given = console.input("which is better? l(eft) r(ight) e(qual) s(kip) u(ndo) q(uit): ").strip().lower()
        except EOFError:
            return "q"
        if given[:1] in {*LABELS, "u", "q"}:
            return given[0]
        console.print(f"got '{given}', must be one of l r e s u q", markup=False)
