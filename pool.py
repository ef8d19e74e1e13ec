"""A pool of sessions: nobody waits without a limit, nobody gets a dead connection."""

import asyncio
import math
import random
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

import psycopg2
from psycopg2.errors import ReadOnlySqlTransaction
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from connection import (
    CONFLICTS,
    DatabaseTimeout,
    PooledConnection,
    engine,
    is_refused,
)
from greenlets import Greenlets
from time_limits import TimeLimit, TimeLimits
from timing import listeners

PATIENCE = 5.0
"""Seconds for which what was refused is tried again when an outage begins, as in a failover."""
RECONNECT_INTERVAL = 0.2
MAX_AGE = 1800.0
"""Seconds after which a connection is replaced: the name may stand for another server by then."""
NOT_HERE = ("08", "57P")
"""Classes of errors that say that the connection is of no more use."""
DRIVER = "driver"
"""Where a session's `info` has psycopg2's connection: two microseconds nearer than its own way."""
CURSOR = "cursor"
"""Where it has a cursor that is kept: to make one is 1 % of a request."""

T = TypeVar("T")


class _ServerChanged(Exception):
    """The connection is lost or read-only, and nothing was changed on it."""


class _Refused(Exception):
    """The pooler has no server, and nothing was executed."""


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
        patience: Seconds from the beginning of an outage in which what was refused is tried again.

    """

    def __init__(
        self,
        url: str,
        pool_size: int,
        max_overflow: int = 0,
        time_limit: float | None = None,
        patience: float = 0,
    ) -> None:
        self._engine = engine(url, time_limit)
        self._time_limit = time_limit
        self._pool_size = pool_size
        self._patience = patience
        self._failing_since: float | None = None
        self._idle: list[_Held] = []
        self._greenlets = Greenlets()
        self._limits = TimeLimits(time_limit)
        self._size = pool_size + max_overflow
        self._turn = asyncio.Semaphore(self._size)
        self._twins: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()
        self._retired = -math.inf  # connections that were opened before are not used again
        self._connectors = ThreadPoolExecutor(pool_size + max_overflow, "connect")

    async def run(self, work: Callable[[Session], T], twin: Hashable = None) -> T:
        """Return what `work(session)` returns.

        Work is started again only if no statement of it can have changed anything: once on another
        connection if this one is lost or read-only, at once after a conflict with another
        transaction, and until `patience` ends if PgBouncer has no server.

        Args:
            work: What to do.
            twin: Runs after all others with the same value. It waits for them without a connection:
                if PostgreSQL let them wait for each other, they could hold all connections.

        Raises:
            DatabaseTimeout: It took longer than the time limit.

        """
        try:
            with TimeLimit(self._limits) as limit:
                if not twin:
                    return await self._persist(work, limit)
                async with self._twins.setdefault(twin, asyncio.Lock()):
                    return await self._persist(work, limit)
        except TimeoutError:
            raise DatabaseTimeout(f"no answer within {self._time_limit} s") from None

    async def _persist(self, work: Callable[[Session], T], limit: TimeLimit) -> T:
        is_last = False
        while True:
            try:
                return await self._attempt(work, limit, is_last=is_last)
            except _ServerChanged:
                is_last = True
            except _Refused as exc:
                if not self._is_patient():
                    raise exc.__cause__ or exc from None
                await asyncio.sleep(RECONNECT_INTERVAL)

    async def _attempt(
        self,
        work: Callable[[Session], T],
        limit: TimeLimit,
        *,
        is_last: bool,
    ) -> T:
        began = time.perf_counter()
        try:
            held = await self._take(limit)
        finally:
            for listener in listeners:
                listener.waited(self, time.perf_counter() - began)
        driver = held.driver
        try:
            while True:
                # Without a time limit nobody sees the statements, and each may be a change.
                driver.may_have_written = self._time_limit is None
                try:
                    result = await self._greenlets.call(work, held.session)
                    self._failing_since = None
                    return result  # noqa: TRY300
                except (psycopg2.Error, DBAPIError) as exc:
                    cause: Any = getattr(exc, "orig", exc)  # SQLAlchemy's have the driver's
                    if isinstance(cause, ReadOnlySqlTransaction):
                        self._retired = time.monotonic()
                    elif (cause.pgcode or "").startswith(NOT_HERE):
                        driver.close()
                    if driver.may_have_written:
                        raise
                    if is_refused(cause):
                        raise _Refused from exc
                    if not isinstance(cause, CONFLICTS):
                        if is_last or self._is_usable(held):
                            raise
                        raise _ServerChanged from exc
        finally:
            self._put_back(held)

    async def _take(self, limit: TimeLimit) -> _Held:
        """Wait for a turn; return a connection that works."""
        await self._turn.acquire()
        connecting: asyncio.Future[_Held] | None = None
        try:
            while self._idle:
                held = self._idle.pop()  # the one that was used last is the most likely to live
                held.driver.limit = limit
                if self._is_usable(held) and not held.driver.has_input():
                    return held
                if await self._answers(held):
                    return held
            loop = asyncio.get_running_loop()
            while True:
                connecting = loop.run_in_executor(self._connectors, self._connect)
                try:
                    held = await asyncio.shield(connecting)
                    break
                except DBAPIError:
                    if not self._is_patient():
                        raise
                connecting = None
                await asyncio.sleep(RECONNECT_INTERVAL)
        except BaseException:
            if connecting:
                # The turn lasts as long as the connecting: whoever gives up leaves no queue behind.
                connecting.add_done_callback(self._keep_for_later)
            else:
                self._turn.release()
            raise
        held.driver.limit = limit
        return held

    def _is_patient(self) -> bool:
        """Tell whether to try again. Nothing was executed, and an outage may end in seconds."""
        self._failing_since = self._failing_since or time.monotonic()
        return time.monotonic() < self._failing_since + self._patience

    def _connect(self) -> _Held:
        opened = time.monotonic()
        connection = self._engine.connect()
        driver: Any = connection.connection.dbapi_connection
        driver.connect_by = math.inf
        # Spread, so that they are not all replaced at once.
        expires = opened + MAX_AGE * random.uniform(0.8, 1)  # noqa: S311  # no secret
        session = Session(connection, info={DRIVER: driver, CURSOR: driver.cursor()})
        return _Held(session, connection, driver, opened, expires)

    def _is_usable(self, held: _Held) -> bool:
        return (
            held.driver.get_transaction_status() == TRANSACTION_STATUS_IDLE
            and held.opened > self._retired
            and time.monotonic() < held.expires
        )

    async def _answers(self, held: _Held) -> bool:
        """Tell whether a connection still works that has ended or brought something while idle.

        Discard it if not. A ping before each use would cost a round trip.
        """
        answers = False
        try:
            if self._is_usable(held):
                await self._greenlets.call(self._engine.dialect.do_ping, held.driver)
                answers = True
        except psycopg2.Error:
            pass
        finally:
            if not answers:
                held.discard()
        return answers

    def _keep_for_later(self, connecting: "asyncio.Future[_Held]") -> None:
        if connecting.cancelled() or connecting.exception():
            self._turn.release()
        else:
            self._put_back(connecting.result())

    def _put_back(self, held: _Held) -> None:
        self._turn.release()
        if self._is_usable(held) and len(self._idle) < self._pool_size:
            if held.session.identity_map or held.session.new:  # to forget nothing takes time, too
                held.session.expunge_all()
            self._idle.append(held)
        else:
            held.discard()

    @property
    def in_use(self) -> int:
        """The connections with which something is done."""
        return self._size - self._turn._value  # noqa: SLF001  # asyncio does not show it otherwise

    @property
    def idle(self) -> int:
        """The connections that are open and not in use."""
        return len(self._idle)

    def close(self) -> None:
        """Close the idle connections."""
        self._connectors.shutdown(wait=False, cancel_futures=True)
        while self._idle:
            self._idle.pop().discard()
