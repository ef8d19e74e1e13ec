"""How psycopg2 waits for the server: on the event loop, or, to connect, in a thread."""

import asyncio
import math
import select
import socket
import time
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, set_wait_callback

from greenlets import await_, in_greenlet

READS_PER_TURN = 16
"""Times that a result is read from before other requests go on."""
MAX_POLL = 60.0
"""Seconds for which a thread waits at a time."""


class Watch:
    """Watches a connection's socket on the event loop, from its first statement to its end.

    To watch it for each statement anew takes three times as long. The descriptor is a duplicate:
    libpq closes its own when the server ends the connection, and the loop would go on to watch
    whatever gets its number.
    """

    def __init__(self, descriptor: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM)
        self._waiting: asyncio.Future[None] | None = None
        self._is_reading = False

    def wait(self, *, reading: bool) -> None:
        """Wait until the socket can be read or written."""
        self._waiting = self._loop.create_future()
        try:
            if not reading:
                self._loop.add_writer(self._socket, self._wake)
            elif not self._is_reading:
                self._loop.add_reader(self._socket, self._wake)
                self._is_reading = True
            await_(self._waiting)
        finally:
            self._waiting = None
            if not reading:
                self._loop.remove_writer(self._socket)

    def _wake(self) -> None:
        if self._waiting is None:
            # The server has ended an idle connection; otherwise it says nothing by itself.
            self._loop.remove_reader(self._socket)
            self._is_reading = False
        elif not self._waiting.done():
            self._waiting.set_result(None)

    def close(self) -> None:
        """Stop watching."""
        if self._is_reading and not self._loop.is_closed():
            self._loop.remove_reader(self._socket)
        self._socket.close()


def _wait(connection: Any) -> None:  # noqa: ANN401  # psycopg2's
    """Wait for the server where psycopg2 itself would block."""
    if not in_greenlet():
        _wait_in_thread(connection)
        return
    while (state := connection.poll()) != POLL_OK:
        if connection.watch is None:
            connection.watch = Watch(connection.fileno())
        connection.watch.wait(reading=state == POLL_READ)
        # libpq takes 16 kB at a time: a long result would need a turn of the loop for each.
        for _ in range(READS_PER_TURN):
            if connection.poll() == POLL_OK:
                return
            if not connection.has_input():
                break


def _wait_in_thread(connection: Any) -> None:  # noqa: ANN401
    deadline = getattr(connection, "connect_by", math.inf)
    while (state := connection.poll()) != POLL_OK:
        seconds = min(deadline - time.monotonic(), MAX_POLL)
        if seconds < 0:
            raise psycopg2.OperationalError("timeout expired")
        poller(connection.fileno(), reading=state == POLL_READ)(seconds * 1000)


def poller(descriptor: int, *, reading: bool) -> Callable[[float], Sequence[object]]:
    """Return what waits some milliseconds until the socket can be read or written."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(descriptor, select.POLLIN if reading else select.POLLOUT)
        return poll.poll
    read, write = ([descriptor], []) if reading else ([], [descriptor])  # Windows
    return lambda milliseconds: [*chain(*select.select(read, write, [], milliseconds / 1000))]


set_wait_callback(_wait)
