"""How `python main.py` serves the app: uvicorn, with limits on endless requests, and drained.

Uvicorn alone waits for ever for the rest of a request, keeps headers of any size, refuses what is
no HTTP in plain text, and at SIGTERM resets connections whose request it has not read yet.
"""

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import NoReturn

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

import workers
from config import startup_settings
from errors import ApiError, HeadersTooLarge, RequestTimeout, ValidationFailed, render
from logs import configure_logging

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
NO_SUCH_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}

logger = logging.getLogger(__name__)


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

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._queues = [listener.dup() for listener in sockets or []]
        try:
            await super().startup(sockets)
            for queue in self._queues:
                queue.listen(self.config.backlog)  # again: uvloop ignores an error, and closes
        except OSError as exc:  # another process has begun to listen since the port was bound
            logger.critical("The port cannot be used: %s", exc.strerror)
            await self.lifespan.shutdown()
            sys.exit(STARTUP_FAILURE)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        waiting = []
        for queue in self._queues:
            with queue:
                waiting += _accept_all(queue)
        loop = asyncio.get_running_loop()
        for connection in waiting:
            await loop.connect_accepted_socket(self._protocol, connection)
        await super().shutdown(sockets)

    def _protocol(self) -> Protocol:
        return Protocol(self.config, self.server_state, self.lifespan.state)


def _accept_all(queue: socket.socket) -> list[socket.socket]:
    queue.settimeout(0)
    accepted = []
    while True:
        try:
            accepted.append(queue.accept()[0])
        except OSError:
            return accepted


def run() -> NoReturn:
    """Serve PORT with WEB_CONCURRENCY workers until SIGTERM or SIGINT."""
    _exit_at_signals()
    settings = startup_settings()
    sockets = bind(settings.port)
    logger.info("Starting on port %d, workers: %d", settings.port, settings.web_concurrency)
    if settings.web_concurrency > 1:
        workers.supervise(settings.web_concurrency, sockets, settings.log_level)
    serve(sockets)


def bind(port: int) -> list[socket.socket]:
    """Bind the port on all interfaces, for IPv4 and for IPv6, as far as the system has them.

    A single socket for both would show IPv4 clients as `::ffff:192.0.2.1`, which uvicorn does not
    find in FORWARDED_ALLOW_IPS.
    """
    sockets = []
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104  # a platform's proxy calls from outside
        try:
            sockets.append(_bound(family, address, port))
        except OSError as exc:
            if exc.errno not in NO_SUCH_FAMILY:
                logger.critical("Port %d cannot be used: %s", port, exc.strerror)
                sys.exit(STARTUP_FAILURE)
    return sockets


def _bound(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    listener = socket.socket(family)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family is socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address, port))
    except OSError:
        listener.close()
        raise
    return listener


def serve(sockets: list[socket.socket]) -> NoReturn:
    """Serve the app in this process until SIGTERM or SIGINT."""
    _exit_at_signals()
    _allow_many_connections()
    config = uvicorn.Config(
        "main:app",
        http=Protocol,
        ws="none",
        # Windows' usual loop cannot tell when psycopg2's sockets have something to read.
        loop="asyncio:SelectorEventLoop" if sys.platform == "win32" else "auto",
        log_config=None,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
        timeout_keep_alive=KEEP_ALIVE,
        workers=1,  # or it would read WEB_CONCURRENCY itself
    )
    server = _Server(config)
    try:
        config.load_app()
        server.run(sockets)
    except Exception:
        logger.exception("The service failed")
        sys.exit(1 if server.started else STARTUP_FAILURE)
    sys.exit(0 if server.started else STARTUP_FAILURE)


def _exit_at_signals() -> None:
    """Exit with 0 at SIGTERM and SIGINT, which uvicorn raises again once it has ended."""
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: os._exit(0))


def _allow_many_connections() -> None:
    """Raise the limit of open files, often 1024, as far as the system lets this process."""
    if resource:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
        if soft != resource.RLIM_INFINITY and soft < most:
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


if __name__ == "__main__":
    configure_logging("info")
    serve(workers.join())
