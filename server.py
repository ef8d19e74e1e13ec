"""Serves the app with uvicorn, and drains it at SIGTERM.

By itself, uvicorn resets connections whose request it has not read when SIGTERM comes.
"""

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, NoReturn

import uvicorn
from uvicorn.config import STARTUP_FAILURE

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

import workers
from config import startup_settings
from logs import configure_logging
from protocol import KEEP_ALIVE, Protocol

MAX_FILES = 65536
"""Connections that a process may hold, where the system allows as many."""
SHUTDOWN_TIMEOUT = 25
"""Seconds after SIGTERM until unfinished requests are given up; platforms kill after 30."""
NO_SUCH_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}

OPTIONS: dict[str, Any] = {
    "http": Protocol,
    "ws": "none",
    "timeout_keep_alive": KEEP_ALIVE,
    "log_config": None,
}
"""What uvicorn has to be told, however it is started."""

logger = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """Uvicorn's server. At its end it first accepts each connection that waits in the kernel."""

    is_only = False
    """Whether the listening sockets are this process's own."""

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
        if self.is_only:  # one of several workers may end alone
            for queue in self._queues:
                workers.stop_handshakes(queue)
        for server in self.servers:
            server.close()
        await asyncio.sleep(workers.HANDSHAKE_TIME)
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
    serve(sockets, is_only=True)


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


def serve(sockets: list[socket.socket], *, is_only: bool = False) -> NoReturn:
    """Serve the app in this process until SIGTERM or SIGINT."""
    _exit_at_signals()
    _allow_many_connections()
    config = uvicorn.Config(
        "main:app",
        # The default loop on Windows cannot watch psycopg2's sockets.
        loop="asyncio:SelectorEventLoop" if sys.platform == "win32" else "auto",
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
        workers=1,  # or it would read WEB_CONCURRENCY itself
        **OPTIONS,
    )
    server = _Server(config)
    server.is_only = is_only
    try:
        config.load_app()
        # The garbage collector need not look through 100,000 objects that stay: that stopped all
        # requests for 50 to 150 ms, every few seconds.
        gc.freeze()
        server.run(sockets)
    except Exception:
        logger.exception("The service failed")
        sys.exit(1 if server.started else STARTUP_FAILURE)
    sys.exit(0 if server.started else STARTUP_FAILURE)


def _exit_at_signals() -> None:
    """Exit with 0 at SIGTERM and SIGINT; uvicorn raises the signal again when it has ended."""
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: os._exit(0))


def _allow_many_connections() -> None:
    """Raise the limit of open files, often 1024, as far as the system allows."""
    if resource:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
        if soft != resource.RLIM_INFINITY and soft < most:
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


if __name__ == "__main__":
    configure_logging("info")
    serve(workers.join())
