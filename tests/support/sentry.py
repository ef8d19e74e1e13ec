"""A Sentry of a test's own: it keeps what it is sent, or hangs."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.service import wait_for


class Sentry:
    """Takes envelopes."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        """Whole requests as text, their bodies decompressed."""
        self.events: list[dict[str, Any]] = []
        sentry = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                sentry.requests.append(f"{self.path}\n{self.headers}\n{body.decode()}")
                sentry.events += _events(body)
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = f"http://key@127.0.0.1:{self.server.server_port}/42"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait_for_events(self, number: int) -> list[dict[str, Any]]:
        wait_for(lambda: len(self.events) >= number)
        return self.events


def _events(envelope: bytes) -> list[dict[str, Any]]:
    _, *lines = envelope.rstrip(b"\n").split(b"\n")
    heads, contents = lines[::2], lines[1::2]
    assert [json.loads(head)["type"] for head in heads] == ["event"] * len(contents)
    return [json.loads(content) for content in contents]


@contextmanager
def sentry() -> Iterator[Sentry]:
    server = Sentry()
    try:
        yield server
    finally:
        server.server.shutdown()
        server.server.server_close()
