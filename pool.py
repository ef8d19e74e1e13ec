"""A pool of sessions: nobody waits without a limit, nobody gets a dead connection."""

import asyncio
import math
import random
import select
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import psycopg2
from psycopg2.extensions import (
    POLL_OK,
    POLL_READ,
    TRANSACTION_STATUS_IDLE,
    connection,
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
RESERVE = 0.1
"""Part of the time limit that remains when PostgreSQL gives up a statement, and its locks."""
MAX_AGE = 1800.0
"""Seconds after which a connection is replaced: the name may stand for another server by then."""
READ_ONLY = "25006"
CONFLICTS = {"40001", "40P01"}
"""Serialization failure and deadlock. PostgreSQL has undone the transaction."""
NOT_HERE = ("08", "57P")
"""Classes of errors that say that the connection is of no more use."""
NOT_EXECUTED = {READ_ONLY, *CONFLICTS}
"""Errors that prove that their statement changed nothing."""
MAX_POLL = 60.0
"""Seconds for which a thread waits at a time."""
TURN = 500
"""Rows after which work on many should give way to other requests: a millisecond or two."""

T = TypeVar("T")


class DatabaseTimeout(Exception):
    """The database did not answer in time. A change that was asked for may still be applied."""


class _ServerChanged(Exception):
    """The connection is lost or read-only, and nothing was changed on it."""


class PooledConnection(connection):
    """A connection that knows what the work that uses it has done and how long it may take."""

    deadline = math.inf
    """The time of the monotonic clock at which the work is given up."""
    reserve = 0.0
    """Seconds before that at which PostgreSQL gives a statement up."""
    may_have_written = False
    """Whether a statement of this work has changed something, as far as is known."""


class _LimitedCursor(cursor):
    """A cursor that lets PostgreSQL end a statement that takes longer than its work may.

    In the statement's own message: `options=-c statement_timeout=…` is refused by transaction
    poolers, a SET would reach their other clients, and SET LOCAL alone is one more round trip.
    """

    connection: PooledConnection

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002, ANN401  # psycopg2's
        pooled = self.connection
        seconds = pooled.deadline - time.monotonic() - pooled.reserve
        if seconds < pooled.reserve:
            raise DatabaseTimeout("too little time left for another statement")
        before = pooled.may_have_written
        # PostgreSQL refuses a SELECT that contains a change, and no function here makes one.
        pooled.may_have_written = before or not query.startswith("SELECT ")
        if seconds < math.inf:
            query = f"SET LOCAL statement_timeout = {math.ceil(seconds * 1000)}; {query}"
        try:
            super().execute(query, vars)
        except psycopg2.Error as exc:
            if exc.pgcode in NOT_EXECUTED:
                pooled.may_have_written = before
            raise


class _Held(NamedTuple):
    session: Session
    connection: Connection
    driver: PooledConnection
    opened: float
    expires: float

    def discard(self) -> None:
        """Close the connection without a word to the server, which may not listen any more."""
        self.connection.invalidate()
        self.session.close()


class SessionPool:
    """Sessions that keep their connections, for functions that wait without blocking.

    A function runs in a greenlet on the event loop: where psycopg2 would wait for the server, other
    requests go on. In threads the same functions take half as long again, as threads contend for
    the GIL. Only connecting, which resolves names, is left to threads.

    Args:
        url: With any parameter of libpq, which wins over the defaults here.
        pool_size: Connections that stay open.
        max_overflow: Connections that are opened beyond them under load.
        time_limit: Seconds for each piece of work, waiting for a connection included. With one,
            each statement is a transaction. Without one, work may take as long as it wants, and
            commits itself.

    """

    def __init__(
        self, url: str, pool_size: int, max_overflow: int = 0, time_limit: float | None = None
    ) -> None:
        self._engine = _engine(url, time_limit)
        self._time_limit = time_limit
        self._pool_size = pool_size
        self._idle: list[_Held] = []
        self._turn = asyncio.Semaphore(pool_size + max_overflow)
        self._retired = -math.inf  # connections that were opened before are not used again
        self._connectors = ThreadPoolExecutor(pool_size + max_overflow, "connect")

    async def run(self, work: Callable[[Session], T]) -> T:
        """Return what `work(session)` returns.

        Work is started again only if no statement of it can have changed anything: once on another
        connection if this one is lost or read-only, and at once after a conflict with another
        transaction.

        Raises:
            DatabaseTimeout: It took longer than the time limit.

        """
        limit = math.inf if self._time_limit is None else self._time_limit
        deadline = time.monotonic() + limit
        try:
            async with asyncio.timeout(self._time_limit):
                try:
                    return await self._attempt(work, deadline)
                except _ServerChanged:
                    return await self._attempt(work, deadline, is_last=True)
        except TimeoutError:
            raise DatabaseTimeout(f"no answer within {self._time_limit} s") from None

    async def _attempt(
        self, work: Callable[[Session], T], deadline: float, *, is_last: bool = False
    ) -> T:
        held = await self._take(deadline)
        driver = held.driver
        try:
            while True:
                # Without a time limit nobody sees the statements, and each may be a change.
                driver.may_have_written = self._time_limit is None
                try:
                    return await greenlet_spawn(work, held.session)
                except (psycopg2.Error, DBAPIError) as exc:
                    code = getattr(getattr(exc, "orig", exc), "pgcode", None) or ""
                    if code == READ_ONLY:
                        self._retired = time.monotonic()
                    elif code.startswith(NOT_HERE):
                        driver.close()
                    if driver.may_have_written:
                        raise
                    if code not in CONFLICTS:
                        if is_last or self._is_usable(held):
                            raise
                        raise _ServerChanged from exc
        finally:
            self._put_back(held)

    async def _take(self, deadline: float) -> _Held:
        """Wait for a turn; return a connection that works."""
        await self._turn.acquire()
        connecting: asyncio.Future[_Held] | None = None
        try:
            while self._idle:
                held = self._idle.pop()  # the one that was used last is the most likely to live
                held.driver.deadline = deadline
                if await self._works(held):
                    return held
            connecting = asyncio.get_running_loop().run_in_executor(self._connectors, self._connect)
            held = await asyncio.shield(connecting)
        except BaseException:
            if connecting:
                # The turn lasts as long as the connecting: whoever gives up leaves no queue behind.
                connecting.add_done_callback(self._keep_for_later)
            else:
                self._turn.release()
            raise
        held.driver.deadline = deadline
        return held

    def _connect(self) -> _Held:
        opened = time.monotonic()
        connection = self._engine.connect()
        driver: Any = connection.connection.dbapi_connection
        driver.reserve = RESERVE * (self._time_limit or 0)
        # Spread, so that they are not all replaced at once.
        expires = opened + MAX_AGE * random.uniform(0.8, 1)  # noqa: S311  # no secret
        return _Held(Session(connection), connection, driver, opened, expires)

    def _is_usable(self, held: _Held) -> bool:
        return (
            held.driver.get_transaction_status() == TRANSACTION_STATUS_IDLE
            and held.opened > self._retired
            and time.monotonic() < held.expires
        )

    async def _works(self, held: _Held) -> bool:
        """Tell whether a connection has not ended while it was idle; discard it if it has.

        A ping before each use would cost a round trip. An idle connection has nothing to read,
        unless the server has ended it or has said something else; only then it is asked.
        """
        works = False
        try:
            works = self._is_usable(held)
            if works and _is_ready(held.driver.fileno(), 0):
                works = False
                await greenlet_spawn(self._engine.dialect.do_ping, held.driver)
                works = True
        except psycopg2.Error:
            pass
        finally:
            if not works:
                held.discard()
        return works

    def _keep_for_later(self, connecting: "asyncio.Future[_Held]") -> None:
        if connecting.cancelled() or connecting.exception():
            self._turn.release()
        else:
            self._put_back(connecting.result())

    def _put_back(self, held: _Held) -> None:
        self._turn.release()
        if self._is_usable(held) and len(self._idle) < self._pool_size:
            held.session.expunge_all()
            self._idle.append(held)
        else:
            held.discard()

    def close(self) -> None:
        """Close the idle connections."""
        self._connectors.shutdown(wait=False, cancel_futures=True)
        while self._idle:
            self._idle.pop().discard()


def execute(
    session: Session, sql: str, values: Mapping[str, Any] | None = None
) -> Sequence[Sequence[Any]]:
    """Return the rows of a statement that psycopg2 executes on the session's connection."""
    cursor = session.connection().connection.cursor()
    cursor.execute(sql, values)
    rows: Sequence[Sequence[Any]] = cursor.fetchall()
    cursor.close()
    return rows


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
    parameters: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT,
        "connection_factory": PooledConnection,
        **KEEPALIVE,
    }
    options: dict[str, Any] = {}
    if time_limit:
        parameters["tcp_user_timeout"] = round(time_limit * 1000)
        parameters["cursor_factory"] = _LimitedCursor
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


set_wait_callback(_wait)
