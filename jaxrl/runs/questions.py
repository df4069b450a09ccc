"""Questions that a run puts to somebody outside of its program, and the answers, in one SQLite file of its folder.

The run adds questions and takes answers up between chunks of updates. A person's page or a judge reads questions and
writes answers. Each call is one transaction of its own connection, so either side may be killed at any time, and
several may answer at once. A question is a pair of segments; its answer is a preference for the first, as in
``teachers.Answers``: 1, 0, 1/2 for a tie, or None where it was skipped.
"""

from __future__ import annotations

import contextlib
import errno
import io
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TABLES = """
CREATE TABLE IF NOT EXISTS questions (
    id INTEGER PRIMARY KEY, member INTEGER NOT NULL, row INTEGER NOT NULL, at_update INTEGER NOT NULL,
    segments BLOB NOT NULL, UNIQUE (member, row));
CREATE TABLE IF NOT EXISTS answers (
    question INTEGER PRIMARY KEY REFERENCES questions, label REAL, who TEXT NOT NULL, number INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS leases (
    question INTEGER PRIMARY KEY REFERENCES questions, who TEXT NOT NULL, until REAL NOT NULL);
CREATE TABLE IF NOT EXISTS taken (
    number INTEGER PRIMARY KEY, question INTEGER NOT NULL REFERENCES questions, given INTEGER NOT NULL, label REAL,
    at_update INTEGER NOT NULL);
"""

OPEN = "questions WHERE id NOT IN (SELECT question FROM answers)"

CHANGED = """
    SELECT questions.id, answers.question IS NOT NULL, answers.label FROM questions
    LEFT JOIN answers ON answers.question = questions.id
    LEFT JOIN (SELECT question, given, label, max(number) FROM taken GROUP BY question) AS last
        ON last.question = questions.id
    WHERE (answers.question IS NOT NULL) IS NOT coalesce(last.given, 0) OR answers.label IS NOT last.label
    ORDER BY questions.id"""
"""Questions whose answer differs from the one that the run took up last; no answer is one too, after an undo."""

WAIT = 30.0
"""Seconds that a transaction waits for another one."""

Arrays = Mapping[str, np.ndarray]


class Question(NamedTuple):
    """A question.

    Attributes:
      id: its number in the file.
      member, row: the member of the run that asks, and the row of its ``Comparisons``.
      segments: arrays ``[2, L, ...]`` by their paths in ``outside_answers.Pair``.
    """

    id: int
    member: int
    row: int
    segments: Arrays


class Counts(NamedTuple):
    """The numbers of questions: all, those that were answered or skipped, and the skipped ones."""

    asked: int
    done: int
    skipped: int


class Questions:
    """The file ``labels.sqlite`` of a run; it is made at the first call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self.path, timeout=WAIT, isolation_level=None)
            try:
                connection.executescript(TABLES)
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            finally:
                connection.close()  # rolls back what was not committed
        except sqlite3.Error as error:  # such as a full disk, which a run reports as one of a file
            raise OSError(errno.EIO, str(error), str(self.path)) from error

    # What the run does.

    def add(self, member: int, row: int, update: int, segments: Arrays) -> Arrays:
        """Asks, unless this row was asked before; returns the segments that are asked about, which stay the same."""
        with self._transaction() as sql:
            values = (member, row, update, _packed(segments))
            sql.execute(
                "INSERT OR IGNORE INTO questions (member, row, at_update, segments) VALUES (?, ?, ?, ?)", values
            )
            found = sql.execute("SELECT segments FROM questions WHERE member = ? AND row = ?", (member, row)).fetchone()
        return _unpacked(found[0])

    def open_before(self, update: int) -> int:
        """The number of open questions that were asked before an update."""
        with self._transaction() as sql:
            return int(sql.execute(f"SELECT count(*) FROM {OPEN} AND at_update < ?", (update,)).fetchone()[0])

    def last_event(self) -> int:
        """The last update at which something was asked or taken up; 0 before any."""
        union = "SELECT at_update FROM questions UNION ALL SELECT at_update FROM taken"
        with self._transaction() as sql:
            return int(sql.execute(f"SELECT coalesce(max(at_update), 0) FROM ({union})").fetchone()[0])

    def take(self, update: int) -> int:
        """Records that the run takes up all new and changed answers at an update; returns their number."""
        with self._transaction() as sql:
            changed = sql.execute(CHANGED).fetchall()
            rows = [(question, given, label, update) for question, given, label in changed]
            sql.executemany("INSERT INTO taken (question, given, label, at_update) VALUES (?, ?, ?, ?)", rows)
        return len(rows)

    def taken(self, update: int) -> dict[tuple[int, int], float | None]:
        """The answers that a run knows after an update: ``(member, row) -> label``, None for no answer or a skip."""
        query = """SELECT member, row, label, max(number) FROM taken JOIN questions ON questions.id = question
            WHERE taken.at_update <= ? GROUP BY question"""
        with self._transaction() as sql:
            return {(member, row): label for member, row, label, _ in sql.execute(query, (update,))}

    # What those who answer do.

    def counts(self) -> Counts:
        """How many questions there are, and how many are done."""
        query = """SELECT (SELECT count(*) FROM questions), count(*), coalesce(sum(label IS NULL), 0) FROM answers"""
        with self._transaction() as sql:
            return Counts(*map(int, sql.execute(query).fetchone()))

    def open(self) -> list[int]:
        """The questions without an answer, the oldest first."""
        with self._transaction() as sql:
            return [question for (question,) in sql.execute(f"SELECT id FROM {OPEN} ORDER BY id")]

    def get(self, question: int) -> Question | None:
        """A question by its number."""
        with self._transaction() as sql:
            query = "SELECT id, member, row, segments FROM questions WHERE id = ?"
            found = sql.execute(query, (question,)).fetchone()
        if found is None:
            return None
        number, member, row, blob = found
        return Question(number, member, row, _unpacked(blob))

    def lease(self, who: str, seconds: float) -> int | None:
        """An open question that nobody else has; it is theirs for some seconds. They keep the one that they have.

        Args:
          who: who asks for it.
          seconds: until another one may get it.
        """
        now = time.time()
        query = f"""SELECT id FROM {OPEN} AND id NOT IN (SELECT question FROM leases WHERE who != ? AND until > ?)
            ORDER BY id NOT IN (SELECT question FROM leases WHERE who = ?), id LIMIT 1"""
        with self._transaction() as sql:
            found = sql.execute(query, (who, now, who)).fetchone()
            if found is None:
                return None
            sql.execute("DELETE FROM leases WHERE who = ?", (who,))
            sql.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (found[0], who, now + seconds))
        return int(found[0])

    def answer(self, question: int, label: float | None, who: str) -> bool:
        """Stores an answer; False if there is one already, or no such question."""
        with self._transaction() as sql:
            query = """INSERT OR IGNORE INTO answers (question, label, who, number)
                SELECT id, ?, ?, (SELECT coalesce(max(number), 0) + 1 FROM answers) FROM questions WHERE id = ?"""
            stored = sql.execute(query, (label, who, question)).rowcount
            sql.execute("DELETE FROM leases WHERE question = ?", (question,))
        return stored > 0

    def undo(self, who: str) -> int | None:
        """Takes back the last answer of somebody and gives them that question again; None if they have none."""
        with self._transaction() as sql:
            query = "SELECT question FROM answers WHERE who = ? ORDER BY number DESC LIMIT 1"
            found = sql.execute(query, (who,)).fetchone()
            if found is None:
                return None
            sql.execute("DELETE FROM answers WHERE question = ?", found)
            sql.execute("DELETE FROM leases WHERE who = ?", (who,))
            sql.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", (found[0], who, time.time() + WAIT))
        return int(found[0])


def _packed(arrays: Arrays) -> bytes:
    file = io.BytesIO()
    named: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    np.savez_compressed(file, **named)
    return file.getvalue()


def _unpacked(blob: Any) -> Arrays:
    with np.load(io.BytesIO(blob), allow_pickle=False) as arrays:
        return dict(arrays)
