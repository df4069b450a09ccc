"""A scripted judge behind the protocol of chat completions on 127.0.0.1, of Python's standard library alone.

``python -m benchmarks.judge_server PORT --mistake 0.1`` prefers the attempt that goes on for longer, calls equal ones
equal, and is wrong about a tenth of the pairs, in both orders alike: which ones follows from their texts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def last_step(text: str) -> int:
    """The number of the last step of an attempt."""
    return max(map(int, re.findall(r"[Ss]tep (\d+)\.", text)), default=0)


def letter(question: str, mistake: float) -> str:
    """A, B, or C for a tie."""
    body = question.split("Attempt A:\n", 1)[1].rsplit("\n\nWhich attempt is better", 1)[0]
    first, second = body.split("\n\nAttempt B:\n", 1)
    one, other = last_step(first), last_step(second)
    if one == other:
        return "C"
    drawn = hashlib.sha256("\0".join(sorted((first, second))).encode()).digest()
    is_wrong = int.from_bytes(drawn[:8]) < mistake * 2.0**64
    return "AB"[(one < other) != is_wrong]


class Judge(BaseHTTPRequestHandler):
    """Answers with one token and its alternatives."""

    protocol_version = "HTTP/1.1"
    mistake = 0.1

    def do_POST(self) -> None:
        """One chat completion."""
        question = json.loads(self.rfile.read(int(self.headers["content-length"])))["messages"][0]["content"]
        said = letter(question, self.mistake)
        top = [{"token": each, "logprob": -0.001 if each == said else -9.0} for each in "ABC"]
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": said},
            "finish_reason": "length",
            "logprobs": {"content": [{"token": said, "logprob": -0.001, "top_logprobs": top}]},
        }
        text = json.dumps({"choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments: object) -> None:
        """Nothing is printed."""


def main(port: int, mistake: float) -> None:
    Judge.mistake = mistake
    ThreadingHTTPServer(("127.0.0.1", port), Judge).serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("--mistake", type=float, default=0.1)
    arguments = parser.parse_args()
    main(arguments.port, arguments.mistake)
