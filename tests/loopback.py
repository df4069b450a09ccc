"""A server of chat completions on 127.0.0.1, in threads of the test's own process, that does what a script says."""

import contextlib
import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def reply(content="A", logprobs=None, finish="stop"):
    """The body of a chat completion."""
    message = {"role": "assistant", "content": content}
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": logprobs}]}


def alternatives(**logprobs):
    """``logprobs`` of a choice, of its first token: ``alternatives(A=-0.1, B=-2.3)``."""
    top = [{"token": token, "logprob": value, "bytes": None} for token, value in logprobs.items()]
    return {"content": [{**top[0], "top_logprobs": top}]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with server.lock:
            number = len(server.requests)
            server.requests.append((self.path, dict(self.headers), body))
            server.under_way += 1
            server.most_at_once = max(server.most_at_once, server.under_way)
        try:
            outcome = server.script(body, number)
            if outcome == "reset":
                # A linger of 0 s sends RST in place of FIN.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()
                return
            status, data, headers = (*outcome, {})[:3] if isinstance(outcome, tuple) else (200, outcome, {})
            headers = dict(headers)
            seconds = headers.pop("sleep", 0)
            text = data if isinstance(data, bytes) else json.dumps(data).encode()
            self.send_response(status)
            self.send_header("content-type", headers.pop("content-type", "application/json"))
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            time.sleep(seconds)
            self.wfile.write(text)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with server.lock:
                server.under_way -= 1

    def log_message(self, *arguments):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        pass


@contextlib.contextmanager
def serving(script, port=0):
    """A server whose answers are ``script(body, number of the request)``.

    A script returns a body, ``(status, body)``, ``(status, body, headers)`` or "reset"; a header ``sleep`` waits so
    many seconds before the body is sent.
    """
    server = _Server(("127.0.0.1", port), _Handler)
    server.script, server.requests, server.lock = script, [], threading.Lock()
    server.under_way = server.most_at_once = 0
    server.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def free_port():
    """A port that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
