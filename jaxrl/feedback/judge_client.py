"""The client of an OpenAI-compatible server: retries, time limits, a budget of calls and a cache.

The server's key is read from the environment variable ``JAXRL_JUDGE_KEY`` when a question is sent. It is written to no
file, and cut out of every message.
"""

from __future__ import annotations

import asyncio
import email.utils
import os
import random
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

from jaxrl.arguments import POSITIVE, check_count, check_float
from jaxrl.feedback.judge_cache import Cache, digest

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

KEY_VARIABLE = "JAXRL_JUDGE_KEY"
"""The environment variable with the server's key; unset for servers that want none."""

RETRIED = frozenset({408, 409, 429})
"""HTTP statuses after which a request is repeated, as it is after all from 500 on."""

MOST_SECONDS = 30.0
"""The longest wait between two tries, unless the server asks for more."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that no proxy is asked for."""


class Limits(NamedTuple):
    """The limits of a client in time, requests and tokens.

    Attributes:
      connect: seconds to connect.
      read: seconds without a byte from the server.
      total: seconds for a question, all tries and the waits between them together.
      concurrency: questions that are under way at once.
      tries: requests for a question, the first included.
      backoff: seconds before the second try; the wait doubles with each further one, less up to half of it at random.
      calls: requests in all that reach the server, tries included; None for no limit.
    """

    connect: float = 5.0
    read: float = 60.0
    total: float = 300.0
    concurrency: int = 4
    tries: int = 6
    backoff: float = 0.5
    calls: int | None = None


class Reply(NamedTuple):
    """The outcome of a question.

    Attributes:
      status: "answered"; "unusable" where the server answered and no reply could be read; "refused" where it said that
        the request is wrong; "unreachable" where it can be asked again later; "spent" where the budget is at its end.
      body: the JSON object of the reply, where it was answered.
      problem: why there is none.
      code: the HTTP status of a refusal, else 0.
    """

    status: Literal["answered", "unusable", "refused", "unreachable", "spent"]
    body: dict[str, Any] | None = None
    problem: str = ""
    code: int = 0


class Client:
    """Asks a server for chat completions."""

    def __init__(self, url: str, *, limits: Limits | None = None, cache: Cache | None = None) -> None:
        """Describes a server; nothing is sent.

        Args:
          url: the address before ``/chat/completions``, such as ``http://127.0.0.1:8000/v1``.
          limits: time limits, concurrency, tries and calls.
          cache: where replies are kept; a new one in memory unless given.

        Raises:
          ImportError: httpx is not installed.
          TypeError, ValueError: the address or a limit is not allowed; the message names it.
        """
        _import_httpx()
        self.url = _checked(url) + "/chat/completions"
        self.limits, self.cache = limits or Limits(), cache or Cache()
        for name in ("connect", "read", "total", "backoff"):
            check_float(name, getattr(self.limits, name), POSITIVE)
        for name in ("concurrency", "tries", *(() if self.limits.calls is None else ("calls",))):
            check_count(name, getattr(self.limits, name))
        self._random = random.Random()

    def ask(self, bodies: Sequence[Mapping[str, Any]]) -> list[Reply]:
        """Sends questions, at most ``concurrency`` at once, and returns their replies in order.

        A question that was answered before is not sent again, and equal questions are sent once. Once a question has
        failed for good, as when the server is away, those that were not begun are "unreachable" too.

        Args:
          bodies: JSON objects of the requests.
        """
        keys = [digest(self.url, body) for body in bodies]
        found = {key: self.cache.reply(key) for key in keys}
        new = {key: body for key, body in zip(keys, bodies, strict=True) if found[key] is None}
        replies = {key: Reply("answered", body) for key, body in found.items() if body is not None}
        if new:
            replies |= zip(new, _run(self._ask_all(new)), strict=True)
        return [replies[key] for key in keys]

    async def _ask_all(self, bodies: Mapping[str, Mapping[str, Any]]) -> list[Reply]:
        import httpx

        limits = self.limits
        times = httpx.Timeout(limits.read, connect=limits.connect)
        most = httpx.Limits(max_connections=limits.concurrency)
        is_near = urlsplit(self.url).hostname in LOOPBACK
        gate = asyncio.Semaphore(limits.concurrency)
        is_secret = self.url.startswith("https")  # else there is no certificate, and loading the known ones takes 0.1 s
        settings: dict[str, Any] = {"headers": _headers(), "timeout": times, "limits": most, "verify": is_secret}
        async with httpx.AsyncClient(**settings, trust_env=not is_near) as http:
            lost: list[Reply] = []

            async def one(key: str, body: Mapping[str, Any]) -> Reply:
                async with gate:
                    if lost:  # the others would wait as long, for nothing
                        return lost[0]
                    try:
                        async with asyncio.timeout(limits.total):
                            reply = await self._tried(http, key, body)
                    except TimeoutError:
                        reply = Reply("unreachable", problem=f"no answer within {limits.total:g} s")
                    if reply.status == "unreachable":
                        lost.append(reply)
                    return reply

            return await asyncio.gather(*(one(key, body) for key, body in bodies.items()))

    async def _tried(self, http: httpx.AsyncClient, key: str, body: Mapping[str, Any]) -> Reply:
        """The reply to one question, after as many tries as it takes and the limits allow."""
        import httpx

        limits, end = self.limits, time.monotonic() + self.limits.total
        reply = Reply("unreachable")
        for number in range(limits.tries):
            if not self.cache.spend(limits.calls):
                return Reply("spent", problem=f"the budget of {limits.calls} calls is spent")
            wait = min(limits.backoff * 2.0**number, MOST_SECONDS) * self._random.uniform(0.5, 1.0)
            try:
                response = await http.post(self.url, json=body)
            except (httpx.TransportError, httpx.DecodingError) as error:
                if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)):
                    self.cache.refund()
                reply = Reply("unreachable", problem=_without_key(f"{type(error).__name__} {error}".strip()))
            else:
                reply = _read(response)
                if reply.body is not None:
                    self.cache.keep(key, reply.body)
                if reply.status in ("answered", "refused"):
                    return reply
                wait += _retry_after(response)
            if number + 1 < limits.tries:
                if time.monotonic() + wait > end:
                    return reply
                await asyncio.sleep(wait)
        return reply


def _read(response: httpx.Response) -> Reply:
    """The reply in a response."""
    status = response.status_code
    text = _without_key(" ".join(response.text[:300].split()))
    if status in RETRIED or status >= 500:
        return Reply("unreachable", problem=f"HTTP {status} {text}")
    if status != 200:
        return Reply("refused", problem=f"HTTP {status} {text}", code=status)
    kind = response.headers.get("content-type", "")
    try:
        body = response.json()
        is_reply = isinstance(body["choices"][0]["message"], dict)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        is_reply = False
    if not is_reply or "json" not in kind:
        return Reply("unusable", problem=f"{kind or 'no content type'}: {text}")
    return Reply("answered", {"choices": [_choice(body["choices"][0])]})


def _choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a choice that are used."""
    content = choice["message"].get("content")
    return {
        "message": {"content": _without_key(content) if isinstance(content, str) else None},
        "finish_reason": choice.get("finish_reason"),
        "logprobs": choice.get("logprobs"),
    }


def _retry_after(response: httpx.Response) -> float:
    """The seconds that a server asks for, as a number or a date; 0 where it does not."""
    text = response.headers.get("retry-after", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (TypeError, ValueError):
            return 0.0
    return max(0.0, seconds) if seconds < float("inf") else 0.0


def _headers() -> dict[str, str]:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        return {}
    if not key.isascii() or not key.isprintable():
        raise ValueError(f"{KEY_VARIABLE}: has characters that a header can't hold, must be printable ASCII")
    return {"authorization": f"Bearer {key}"}


def _without_key(text: str) -> str:
    """A text of the server without the key, which some of them repeat in their messages."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    return text.replace(key, "[key]") if key else text


def _checked(url: str) -> str:
    if not isinstance(url, str):
        raise TypeError(f"url: got {type(url).__name__}, must be text such as http://127.0.0.1:8000/v1")
    try:
        parts = urlsplit(url)
        is_right, has_user = parts.scheme in ("http", "https") and bool(parts.hostname), parts.username is not None
        _ = parts.port
    except ValueError:
        is_right, has_user = False, False
    if has_user or "@" in url or "?" in url or "#" in url:
        raise ValueError(
            f"url: has a user, a query or a fragment, must be a plain address such as http://127.0.0.1:8000/v1; the "
            f"key comes from the environment variable {KEY_VARIABLE}"
        )
    if not is_right:
        raise ValueError(f"url: got '{url}', must be an address such as http://127.0.0.1:8000/v1")
    return url.rstrip("/").removesuffix("/chat/completions")


def _run(task: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end; in another thread where this one has an event loop, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(task)
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((asyncio.run(task), None))
        except BaseException as error:  # raised again below
            outcome.append((None, error))

    thread = threading.Thread(target=run, name="jaxrl asks a judge", daemon=True)
    thread.start()
    thread.join()
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def _import_httpx() -> None:
    try:
        import httpx  # noqa: F401
    except ImportError as error:
        raise ImportError('a judge on a server needs httpx: pip install "jaxrl[judge]"') from error
