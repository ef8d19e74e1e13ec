"""How `python main.py` serves the app: uvicorn, drained at the end.

At SIGTERM uvicorn alone resets connections whose request it has not read yet.
"""

import asyncio
import os
import socket
import sys
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

from protocol import OPTIONS, Protocol

MAX_FILES = 65536
"""Connections that a process may hold, where the system allows as many."""
SHUTDOWN_TIMEOUT = 25
"""Seconds after SIGTERM until unfinished requests are given up; platforms kill after 30."""


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
        "timeout_graceful_shutdown": SHUTDOWN_TIMEOUT,
        **OPTIONS,
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
