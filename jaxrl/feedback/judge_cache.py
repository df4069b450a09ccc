"""The answers of a judge's server in SQLite, so that a resumed run pays nothing twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (request TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS calls (one INTEGER PRIMARY KEY CHECK (one = 1), sent INTEGER NOT NULL);
INSERT OR IGNORE INTO calls VALUES (1, 0);
"""


def digest(url: str, body: Mapping[str, Any]) -> str:
    """The SHA-256 of a whole request: where it goes, and all that is sent. The key of the server is no part of it."""
    text = json.dumps({"url": url, "body": body}, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Cache:
    """Replies by the digest of their request, what is known of the server, and the number of calls so far.

    All is written the moment it is known. Several threads and processes may use one file.
    """

    def __init__(self, path: str | Path = ":memory:") -> None:
        """Opens or makes the file.

        Args:
          path: the file; ":memory:" is forgotten at the end of the process.

        Raises:
          OSError: the file can't be opened or is no database.
        """
        self.path = str(path)
        self._lock = threading.Lock()
        try:
            self._file = sqlite3.connect(self.path, timeout=30.0, check_same_thread=False, isolation_level=None)
            self._file.executescript(SCHEMA)
        except sqlite3.Error as error:
            raise OSError(f"{self.path}: the answers of the judge can't be stored there ({error})") from error

    def reply(self, request: str) -> dict[str, Any] | None:
        """The reply to a request, by its digest; None if there is none."""
        found = self._do("SELECT body FROM replies WHERE request = ?", request)
        return None if found is None else json.loads(found)

    def keep(self, request: str, body: Mapping[str, Any]) -> None:
        """Stores a reply."""
        self._do("INSERT OR REPLACE INTO replies VALUES (?, ?)", request, json.dumps(body))

    def fact(self, name: str) -> str | None:
        """The fact noted under a name, such as the form of answers that a server knows; None if there is none."""
        return self._do("SELECT value FROM facts WHERE name = ?", name)

    def note(self, name: str, value: str) -> None:
        """Stores a fact."""
        self._do("INSERT OR REPLACE INTO facts VALUES (?, ?)", name, value)

    def spend(self, most: int | None) -> bool:
        """Counts a call; False, and no call, where there were ``most`` of them already."""
        bound = 2**62 if most is None else most
        return self._do("UPDATE calls SET sent = sent + 1 WHERE sent < ? RETURNING sent", bound) is not None

    def refund(self) -> None:
        """Takes back a call that did not reach the server."""
        self._do("UPDATE calls SET sent = sent - 1")

    @property
    def calls(self) -> int:
        """The number of calls so far, repeated ones included."""
        return int(self._do("SELECT sent FROM calls"))

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _do(self, statement: str, *values: Any) -> Any:
        """The first column of the first row that a statement returns; None without a row."""
        try:
            with self._lock:
                rows = self._file.execute(statement, values).fetchall()  # all of them, which ends the statement
        except sqlite3.Error as error:
            raise OSError(f"{self.path}: the answers of the judge can't be stored there ({error})") from error
        return rows[0][0] if rows else None
