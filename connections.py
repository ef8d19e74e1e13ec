"""Sessions with a database connection each: nothing waits for ever, no dead connection is used."""

import asyncio
import math
import select
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar, TypeVarTuple

import psycopg2
from psycopg2.extensions import (
    POLL_OK,
    POLL_READ,
    TRANSACTION_STATUS_IDLE,
    cursor,
    set_wait_callback,
)
from sqlalchemy import (
    Connection,
    Engine,
    NullPool,
    create_engine,
    make_url,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.util.concurrency import await_, greenlet_spawn, in_greenlet
from sqlmodel import Session

CONNECT_TIMEOUT = 5
KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""Notice within a minute that the host of an idle connection is gone; Linux takes two hours."""
STATEMENT_SHARE = 0.9
"""Part of the time limit after which PostgreSQL itself gives up a statement, and its locks."""
CONNECTION_ENDED = (
    "FATAL:  terminating connection due to administrator command",
    "FATAL:  terminating connection due to idle-session timeout",
)
"""How PostgreSQL says that it ended a connection, and rolled back what it was executing there."""
MAX_POLL = 60.0
"""Seconds for which a thread waits at a time."""
TURN = 500
"""Rows after which work on many should give way to other requests: a millisecond or two."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class DatabaseTimeout(Exception):
    """The database did not answer in time. A change that was asked for may still be applied."""


class _NotExecuted(Exception):
    """PostgreSQL ended the connection instead of executing the statement."""


class _Held(NamedTuple):
    session: Session
    connection: Connection
    driver: Any
    """psycopg2's connection."""


class SessionPool:
    """Sessions that keep their connections, for functions that wait without blocking.

    A function runs in a greenlet on the event loop: where psycopg2 would wait for the server, other
    requests go on. In threads the same functions take half as long again, as those wait for each
    other's turn with the interpreter. Only connecting, which resolves names, is left to threads.

    Args:
        url: With any parameter of libpq, which wins over the defaults here.
        pool_size: Connections that stay open.
        max_overflow: Connections that are opened beyond them under load.
        time_limit: Seconds for each piece of work, waiting for a connection included. Without one,
            work may take as long as it wants, and commits itself; with one, each statement is a
            transaction.

    """

    def __init__(
        self, url: str, pool_size: int, max_overflow: int = 0, time_limit: float | None = None
    ) -> None:
        self._engine = _engine(url, time_limit)
        self._time_limit = time_limit
        self._pool_size = pool_size
        self._idle: list[_Held] = []
        self._turn = asyncio.Semaphore(pool_size + max_overflow)
        self._connectors = ThreadPoolExecutor(pool_size + max_overflow, "connect")

    async def run(self, work: Callable[[Session, *Ts], T], *args: *Ts) -> T:
        """Return what `work(session, …)` returns.

        Once it has changed something, the work may only read: it is started again if PostgreSQL
        ended the connection instead of executing a statement.

        Raises:
            DatabaseTimeout: It took longer than the time limit.

        """
        try:
            async with asyncio.timeout(self._time_limit), self._turn:
                try:
                    return await self._perform(work, *args)
                except _NotExecuted:
                    return await self._perform(work, *args)
        except TimeoutError:
            raise DatabaseTimeout(f"no answer within {self._time_limit} s") from None

    async def _perform(self, work: Callable[[Session, *Ts], T], *args: *Ts) -> T:
        held = await self._take()
        try:
            return await greenlet_spawn(work, held.session, *args)
        except (psycopg2.Error, DBAPIError) as exc:
            if str(getattr(exc, "orig", exc)).startswith(CONNECTION_ENDED):
                raise _NotExecuted from exc
            raise
        finally:
            self._put_back(held)

    async def _take(self) -> _Held:
        while self._idle:
            held = self._idle.pop()  # the one that was used last is the most likely to live
            if await self._is_alive(held):
                return held
            _discard(held)
        connecting = asyncio.get_running_loop().run_in_executor(self._connectors, self._connect)
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(self._keep_for_later)
            raise

    def _connect(self) -> _Held:
        connection = self._engine.connect()
        return _Held(Session(connection), connection, connection.connection.dbapi_connection)

    async def _is_alive(self, held: _Held) -> bool:
        """Tell whether a connection has not ended while it was idle.

        A ping before each use would cost a round trip. An idle connection has nothing to read,
        unless the server has ended it or has said something else; only then it is asked.
        """
        try:
            if _is_ready(held.driver.fileno(), 0):
                await greenlet_spawn(self._engine.dialect.do_ping, held.driver)
        except psycopg2.Error:
            return False
        return True

    def _keep_for_later(self, connecting: "asyncio.Future[_Held]") -> None:
        if not connecting.exception():
            self._put_back(connecting.result())

    def _put_back(self, held: _Held) -> None:
        usable = held.driver.get_transaction_status() == TRANSACTION_STATUS_IDLE
        if usable and len(self._idle) < self._pool_size:
            self._idle.append(held)
        else:
            _discard(held)

    def close(self) -> None:
        """Close the idle connections."""
        self._connectors.shutdown(wait=False, cancel_futures=True)
        while self._idle:
            _discard(self._idle.pop())


def _discard(held: _Held) -> None:
    """Close the connection without a word to the server, which may not listen any more."""
    held.connection.invalidate()
    held.session.close()


def give_way() -> None:
    """Let other requests go on, in the middle of a long piece of work."""
    await_(asyncio.sleep(0))


def _wait(connection: Any) -> None:  # noqa: ANN401  # psycopg2's
    """Wait for the server where psycopg2 itself would block."""
    wait = _wait_in_greenlet if in_greenlet() else _wait_in_thread
    wait(connection)


def _wait_in_greenlet(connection: Any) -> None:  # noqa: ANN401
    while (state := connection.poll()) != POLL_OK:
        await_(_readiness(connection.fileno(), reading=state == POLL_READ))


def _wait_in_thread(connection: Any) -> None:  # noqa: ANN401
    # libpq leaves `connect_timeout` to those who wait for it.
    limit = float(connection.info.dsn_parameters.get("connect_timeout", 0))
    deadline = time.monotonic() + limit if limit > 0 else math.inf
    while (state := connection.poll()) != POLL_OK:
        seconds = min(deadline - time.monotonic(), MAX_POLL)
        if seconds < 0:
            raise psycopg2.OperationalError("timeout expired")
        _is_ready(connection.fileno(), seconds, reading=state == POLL_READ)


async def _readiness(descriptor: int, *, reading: bool) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    add, remove = (
        (loop.add_reader, loop.remove_reader) if reading else (loop.add_writer, loop.remove_writer)
    )
    add(descriptor, _wake, ready)
    try:
        await ready
    finally:
        remove(descriptor)


def _wake(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)


def _engine(url: str, time_limit: float | None) -> Engine:
    given = make_url(url).query
    parameters: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT, **KEEPALIVE}
    options: dict[str, Any] = {}
    if time_limit:
        parameters["tcp_user_timeout"] = round(time_limit * 1000)
        parameters["cursor_factory"] = _limited_cursor(round(time_limit * STATEMENT_SHARE * 1000))
        options = {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}
    return create_engine(
        url,
        connect_args={name: value for name, value in parameters.items() if name not in given},
        # Otherwise an error's message, and so the log, holds users' data.
        hide_parameters=True,
        # Two statements on each new connection, for a type that is not in use.
        use_native_hstore=False,
        poolclass=NullPool,
        **options,
    )


if hasattr(select, "poll"):

    def _is_ready(descriptor: int, seconds: float, *, reading: bool = True) -> bool:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN if reading else select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

else:  # Windows

    def _is_ready(descriptor: int, seconds: float, *, reading: bool = True) -> bool:
        read, write = ([descriptor], []) if reading else ([], [descriptor])
        return any(select.select(read, write, [], seconds))


def _limited_cursor(milliseconds: int) -> type[cursor]:
    """Return a cursor that lets PostgreSQL end a statement that takes longer.

    In the statement's own message: `options=-c statement_timeout=…` is refused by transaction
    poolers, a SET would reach their other clients, and SET LOCAL alone is one more round trip.
    """
    limit = f"SET LOCAL statement_timeout = {milliseconds}; "

    class LimitedCursor(cursor):
        def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002, ANN401  # psycopg2's
            super().execute(limit + query, vars)

    return LimitedCursor


set_wait_callback(_wait)
