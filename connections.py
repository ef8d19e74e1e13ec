"""Threads with a database connection each: nothing waits for ever, no dead connection is used."""

import asyncio
import select
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import psycopg2
import psycopg2.extensions
from sqlalchemy import Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import DisconnectionError
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

T = TypeVar("T")


class DatabaseTimeout(Exception):
    """The database did not answer in time. A change that was asked for may still be applied."""


class _NotExecuted(Exception):
    """PostgreSQL ended the connection instead of executing the statement."""


class ConnectionThreads:
    """Threads that each use one connection at a time, out of a pool of as many.

    So work waits in one place only, for a thread: with fewer connections than threads the two can
    wait for each other.

    Args:
        url: With any parameter of libpq, which wins over the defaults here.
        pool_size: Connections that stay open.
        max_overflow: Connections that are opened beyond them under load.
        time_limit: Seconds for each piece of work, waiting for a thread included. Without one, work
            may take as long as it wants, and is one transaction; with one, each statement is.

    """

    def __init__(
        self, url: str, pool_size: int, max_overflow: int = 0, time_limit: float | None = None
    ) -> None:
        self._engine = _engine(url, time_limit, pool_size=pool_size, max_overflow=max_overflow)
        self._executor = ThreadPoolExecutor(pool_size + max_overflow, "database")
        self._time_limit = time_limit

    async def run(self, work: Callable[[Session], T], time_limit: float | None = None) -> T:
        """Run the work in a thread and return its result.

        Once it has changed something, the work may only read: it is started again if PostgreSQL
        ended the connection instead of executing a statement.

        Raises:
            DatabaseTimeout: It took longer than the time limit.

        """
        limit = time_limit or self._time_limit
        call = _Call()
        perform = partial(copy_context().run, self._perform, work, call)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limit):
                return await loop.run_in_executor(self._executor, perform)
        except TimeoutError:
            raise DatabaseTimeout(f"no answer from the database within {limit} s") from None
        finally:
            call.end()

    def _perform(self, work: Callable[[Session], T], call: "_Call") -> T:
        try:
            return self._perform_once(work, call)
        except _NotExecuted:
            return self._perform_once(work, call)

    def _perform_once(self, work: Callable[[Session], T], call: "_Call") -> T:
        # expire_on_commit would read returned rows again, after their session has ended.
        with (
            Session(self._engine, expire_on_commit=False) as session,
            call.using(session.connection().connection.dbapi_connection),
        ):
            result = work(session)
            session.commit()
            return result

    def close(self) -> None:
        """Close the idle connections and let the threads end."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._engine.dispose()


class _Call:
    """A piece of work that can be ended while a thread waits for its connection."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._connection: Any = None
        self._ended = False

    @contextmanager
    def using(self, connection: Any) -> Iterator[None]:  # noqa: ANN401  # psycopg2's, or None
        with self._lock:
            if self._ended:
                raise DatabaseTimeout("the time was over before there was a connection")
            self._connection = connection
        try:
            yield
        finally:
            with self._lock:
                self._connection = None

    def end(self) -> None:
        """Wake the thread, if it still waits, by closing its connection under it."""
        with self._lock, suppress(OSError, psycopg2.InterfaceError):
            self._ended = True
            if self._connection is not None:
                _shut_down(self._connection.fileno())


def _shut_down(descriptor: int) -> None:
    borrowed = socket.socket(fileno=descriptor)
    try:
        borrowed.shutdown(socket.SHUT_RDWR)
    finally:
        borrowed.detach()


def _engine(url: str, time_limit: float | None, **pool: int) -> Engine:
    given = make_url(url).query
    parameters = {"connect_timeout": CONNECT_TIMEOUT, **KEEPALIVE}
    if time_limit:
        parameters["tcp_user_timeout"] = round(time_limit * 1000)
    engine = create_engine(
        url,
        connect_args={name: value for name, value in parameters.items() if name not in given},
        # Otherwise an error's message, and so the log, holds users' data.
        hide_parameters=True,
        **(
            {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}
            if time_limit
            else {}
        ),
        **pool,
    )
    event.listen(engine, "checkout", partial(_refuse_dead, engine))
    event.listen(engine, "handle_error", _tell_what_was_not_executed)
    if time_limit:
        _limit_statements(engine, round(time_limit * STATEMENT_SHARE * 1000))
    return engine


def _refuse_dead(engine: Engine, connection: Any, *_: object) -> None:  # noqa: ANN401
    """Let the pool replace a connection that ended while it was idle.

    A ping before each use would cost a round trip. An idle connection has nothing to read, unless
    the server has ended it or has said something else; only then it is asked.
    """
    try:
        if _has_input(connection.fileno()):
            engine.dialect.do_ping(connection)
    except psycopg2.Error as exc:
        raise DisconnectionError from exc


def _tell_what_was_not_executed(context: ExceptionContext) -> None:
    """Raise another error if PostgreSQL ended the connection just before it got the statement.

    psycopg2's own error tells only the last of what happened: that the connection is closed.
    """
    if context.connection is None:  # it was being opened
        return
    connection: Any = context.connection.connection.dbapi_connection
    said = connection.info.error_message
    if said and said.startswith(CONNECTION_ENDED):
        raise _NotExecuted from context.original_exception


if hasattr(select, "poll"):

    def _has_input(descriptor: int) -> bool:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

else:  # Windows

    def _has_input(descriptor: int) -> bool:
        return bool(select.select([descriptor], [], [], 0)[0])


def _limit_statements(engine: Engine, milliseconds: int) -> None:
    """Let PostgreSQL end a statement that takes longer.

    In the statement's own message: `options=-c statement_timeout=…` is refused by transaction
    poolers, a SET would reach their other clients, and SET LOCAL alone is one more round trip.
    """

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def limit(
        _connection: object, _cursor: object, statement: str, parameters: object, *_: object
    ) -> tuple[str, object]:
        return f"SET LOCAL statement_timeout = {milliseconds}; {statement}", parameters
