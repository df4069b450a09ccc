"""The local page on which people compare clips: a Starlette application for 127.0.0.1."""

from __future__ import annotations

import functools
import secrets
import socket
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from rich.console import Console
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from jaxrl.runs.clips import SIDES, Clip, Clips
from jaxrl.runs.folder import RunFolder
from jaxrl.runs.learned_rewards import LABELS as USED
from jaxrl.runs.metrics import read_curves
from jaxrl.runs.questions import Questions

HOST = "127.0.0.1"

LABELS = {"left": 1.0, "right": 0.0, "equal": 0.5, "skip": None}
"""The answers by name."""

LEASE_SECONDS = 60.0
"""Seconds for which a question is one person's; the page renews it."""

AHEAD = 2
"""The number of questions that are drawn ahead of the one that is shown."""

KEPT = 64
"""The most clips in memory."""


@functools.cache
def drawing_thread() -> ThreadPoolExecutor:
    """The one thread of the process that draws, because Matplotlib and pygame work in one only."""
    return ThreadPoolExecutor(max_workers=1)


class Labelling:
    """What the page shows of a run: clips, and how far the answers are.

    Args:
      folder: of the run.
      questions: its questions.
      clips: what draws them.
      labels: the number of questions that the run will ask in all.
    """

    def __init__(self, folder: RunFolder, questions: Questions, clips: Clips, labels: int) -> None:
        self.folder, self.questions, self.clips, self.labels = folder, questions, clips, labels
        self._clips: dict[tuple[int, int], Future[Clip | None]] = {}

    def clip(self, number: int, side: int) -> Future[Clip | None]:
        """The picture of a segment, None for an unknown question."""
        key = (number, side)
        if key not in self._clips:
            self._clips[key] = drawing_thread().submit(self._draw, number, side)
            for old in list(self._clips)[:-KEPT]:
                self._clips.pop(old, None)
        return self._clips[key]

    def _draw(self, number: int, side: int) -> Clip | None:
        question = self.questions.get(number)
        return None if question is None else self.clips.draw(question, side)

    def status(self, who: str) -> dict[str, Any]:
        """The question of a person, and how far everybody is."""
        number, counts = self.questions.lease(who, LEASE_SECONDS), self.questions.counts()
        if number is not None:
            following = [each for each in self.questions.open() if each > number][:AHEAD]
            for each in (number, *following):
                for side in range(len(SIDES)):
                    self.clip(each, side)
        return {"question": number, **counts._asdict(), "labels": self.labels, "accuracy": self.accuracy()}

    def accuracy(self) -> list[tuple[float, float]]:
        """The held-out accuracy of the reward model after each number of answers, means over the members."""
        file, columns = self.folder.metrics_file, (USED, "reward_model_held_out_accuracy")
        members = self.folder.peek_config().num_members
        try:
            used, accuracy = (np.nanmean(read_curves(file, name, members).values, axis=0) for name in columns)
        except ValueError:  # no chunk has ended yet
            return []
        known = {float(x): float(y) for x, y in zip(used, accuracy, strict=True) if x > 0 and y > 0}
        return sorted(known.items())


def make_app(labelling: Labelling, token: str | None = None) -> Starlette:
    """The application; every address of it begins with a token, ``app.state.token``.

    Args:
      labelling: what it shows.
      token: a secret; None draws one.
    """
    token = token or secrets.token_urlsafe(16)
    text = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")

    def show(request: Request) -> Response:
        return HTMLResponse(text)

    def question(request: Request) -> Response:
        return JSONResponse(labelling.status(request.query_params.get("who", "")))

    def clip(request: Request) -> Response:
        number, side = request.path_params["number"], request.path_params["side"]
        drawn = labelling.clip(number, SIDES.index(side)).result() if side in SIDES else None
        if drawn is None:
            return JSONResponse({"error": f"there is no clip '{side}' of question {number}"}, 404)
        return Response(drawn.data, media_type=drawn.media)

    def answered(told: dict[str, Any]) -> Response:
        if told.get("answer") not in LABELS or not isinstance(told.get("question"), int):
            problem = f"answer: got {told.get('answer')!r} to {told.get('question')!r}, must be one of {list(LABELS)}"
            return JSONResponse({"error": problem}, 400)
        stored = labelling.questions.answer(told["question"], LABELS[told["answer"]], told["who"])
        return JSONResponse({**labelling.status(told["who"]), "stored": stored})

    def undone(told: dict[str, Any]) -> Response:
        undone = labelling.questions.undo(told["who"])
        return JSONResponse({**labelling.status(told["who"]), "undone": undone})

    def guarded(reply: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def of_token(request: Request) -> Response:
            given = request.path_params["token"].encode()
            return reply(request) if secrets.compare_digest(given, token.encode()) else Response("not found", 404)

        return of_token

    def posted(reply: Callable[[dict[str, Any]], Response]) -> Any:
        async def of_body(request: Request) -> Response:
            if not secrets.compare_digest(request.path_params["token"].encode(), token.encode()):
                return Response("not found", 404)
            try:
                told = await request.json()
            except ValueError:
                told = None
            if not isinstance(told, dict) or not isinstance(told.get("who"), str):
                return JSONResponse({"error": "body: must be a JSON object with a text 'who'"}, 400)
            return await run_in_threadpool(reply, told)

        return of_body

    routes = [
        Route("/{token}/", guarded(show)),
        Route("/{token}/question", guarded(question)),
        Route("/{token}/clip/{number:int}/{side}", guarded(clip)),
        Route("/{token}/answer", posted(answered), methods=["POST"]),
        Route("/{token}/undo", posted(undone), methods=["POST"]),
    ]
    # Other names of this machine are refused, so that no web page reaches it by a name of its own.
    app = Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])])
    app.state.token = token
    return app


def serve(app: Starlette, port: int, console: Console) -> None:
    """Serves the page on this machine until Ctrl-C."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        address = f"http://{HOST}:{listening.getsockname()[1]}/{app.state.token}/"
        console.print(f"compare clips at {address} (Ctrl-C ends it; the answers are stored)", soft_wrap=True)
        # What is under way at the end is cancelled, which uvicorn would report as an error.
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=2))
        try:
            server.run(sockets=[listening])
        finally:
            drawing_thread().shutdown(wait=False, cancel_futures=True)
