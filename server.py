"""How `python main.py` serves the app: uvicorn, with limits on endless requests, and drained.

Uvicorn alone waits for ever for the rest of a request, keeps headers of any size, refuses what is
no HTTP in plain text, and at SIGTERM resets connections whose request it has not read yet.
"""

import asyncio
import os
import socket
import sys
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

from errors import ApiError, HeadersTooLarge, RequestTimeout, ValidationFailed, render

RECEIVE_TIMEOUT = 15.0
"""Seconds within which a request must have arrived, its body included."""
MAX_OVERHEAD = 64 * 1024
"""Bytes that a request may send without a byte of body: headers, trailers, chunk extensions."""
KEEP_ALIVE = 75
"""Seconds for which an idle connection stays open: longer than proxies keep theirs, often 60, or
they send a request just when it is closed, and their clients see a 502."""
LINGER_TIME = 2.0
"""Seconds in which the rest of a refused request is read and thrown away."""
DRAIN_TIME = 1.0
"""Seconds after SIGTERM in which an idle connection may still send a request."""
MAX_FILES = 65536
"""Connections that a process may hold, where the system allows as many."""
SHUTDOWN_TIMEOUT = 25
"""Seconds after SIGTERM until unfinished requests are given up; platforms kill after 30."""


class Protocol(HttpToolsProtocol):
    """One client's connection."""

    _overhead = 0
    _incomplete = True
    _draining = False
    _refused = False
    _receive_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect the first request in time."""
        super().connection_made(transport)
        self._await_the_rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        if self._refused:
            return
        self._overhead += len(data)
        super().data_received(data)
        if self._overhead > MAX_OVERHEAD:
            self._refuse(HeadersTooLarge())
        elif self._incomplete:
            self._await_the_rest()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._incomplete = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Let the app answer; while draining, this request is the connection's last."""
        super().on_headers_complete()
        if self._draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._overhead = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that the whole request is there."""
        self._overhead = 0
        self._incomplete = False
        self._stop_waiting()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, in the common body; uvicorn has logged it."""
        self._refuse(ValidationFailed(msg.removesuffix(" received.")))

    def shutdown(self) -> None:
        """Close after the request that is being answered, or that is on its way."""
        self._draining = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(DRAIN_TIME, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def _close_if_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _await_the_rest(self) -> None:
        if self._receive_timer is None and not self.transport.is_closing():
            self._receive_timer = self.loop.call_later(RECEIVE_TIMEOUT, self._give_up)

    def _stop_waiting(self) -> None:
        if self._receive_timer is not None:
            self._receive_timer.cancel()
            self._receive_timer = None

    def _give_up(self) -> None:
        self._refuse(RequestTimeout())

    def _refuse(self, error: ApiError) -> None:
        """Answer without the app, unless there was no request or it has its answer, and close."""
        if self.transport.is_closing() or self._refused:
            return
        self._refused = True
        asked = self._overhead > 0 or self.cycle is not None
        if asked and (self.cycle is None or not self.cycle.response_started):
            response = render(error)
            headers = [*self.server_state.default_headers, *response.raw_headers]
            lines = [b"%s: %s\r\n" % header for header in [*headers, (b"connection", b"close")]]
            head = STATUS_LINE[response.status_code] + b"".join(lines) + b"\r\n"
            self.transport.write(head + bytes(response.body))
        self.transport.write_eof()
        # Closed at once, it would reset a client that still sends, before that reads the answer.
        self.loop.call_later(LINGER_TIME, self.transport.close)


class _Server(uvicorn.Server):
    """Uvicorn's server, which takes every connection that the kernel has accepted, then closes."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        waiting = []
        for server in self.servers:
            for listener in server.sockets:
                with socket.socket(fileno=os.dup(listener.fileno())) as queue:
                    server.close()
                    waiting += _accept_all(queue)
        loop = asyncio.get_running_loop()
        for connection in waiting:
            await loop.connect_accepted_socket(self._protocol, connection)
        await super().shutdown(sockets)

    def _protocol(self) -> Protocol:
        return Protocol(self.config, self.server_state, self.lifespan.state)


def _accept_all(queue: socket.socket) -> list[socket.socket]:
    queue.listen(0)  # so that it hardly fills again before it is closed
    queue.settimeout(0)
    accepted = []
    while True:
        try:
            accepted.append(queue.accept()[0])
        except OSError:
            return accepted


def serve(app: str, port: int) -> None:
    """Serve the app on all interfaces until SIGTERM or SIGINT.

    With WEB_CONCURRENCY workers; of several, uvicorn is the supervisor, which at SIGTERM may reset
    connections that no worker has taken yet.
    """
    options: dict[str, Any] = {
        "app": app,
        "host": "0.0.0.0",  # noqa: S104  # a platform's proxy calls from outside
        "port": port,
        "http": Protocol,
        "ws": "none",
        "log_config": None,
        "timeout_graceful_shutdown": SHUTDOWN_TIMEOUT,
        "timeout_keep_alive": KEEP_ALIVE,
    }
    if sys.platform == "win32":
        # Windows' usual loop cannot tell when psycopg2's sockets have something to read.
        options["loop"] = "asyncio:SelectorEventLoop"
    _allow_many_connections()
    config = uvicorn.Config(**options)
    if config.workers > 1:
        uvicorn.run(**options)
        return
    config.load_app()
    server = _Server(config)
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def _allow_many_connections() -> None:
    """Raise the limit of open files, often 1024, as far as the system lets this process."""
    if resource:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
        if soft != resource.RLIM_INFINITY and soft < most:
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
