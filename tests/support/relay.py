"""A relay between a client and the service that loses answers, as networks do."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx

LOST = "lost"
"""The service executes the request, and the answer does not arrive."""
HOP_BY_HOP = {"connection", "content-length", "transfer-encoding", "host", "date", "server"}


@dataclass
class Refusal:
    """An answer of the relay's own: the service never sees the request."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Relay:
    """What happens to the next requests, and what there was."""

    url: str
    faults: deque[Refusal | str] = field(default_factory=deque)
    requests: list[httpx.Request] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    def keys(self) -> list[str | None]:
        return [request.headers.get("Idempotency-Key") for request in self.requests]


@contextmanager
def relay_to(client: httpx.Client) -> Iterator[Relay]:
    """Relay to the service of this client."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def relay(self) -> None:
            sent = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = client.build_request(self.command, self.path, headers=sent, content=content)
            relay.requests.append(request)
            fault = relay.faults.popleft() if relay.faults else None
            if isinstance(fault, Refusal):
                relay.statuses.append(fault.status)
                return self.answer(fault.status, fault.headers, b"<h1>Refused by a proxy</h1>")
            response = client.send(request)
            relay.statuses.append(response.status_code)
            if fault != LOST:
                self.answer(response.status_code, dict(response.headers), response.content)
            return None

        def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            if status not in (204, 304):
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.relay)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        relay = Relay(f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield relay
        finally:
            server.shutdown()
            thread.join()
