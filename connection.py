"""A connection: to one of the URL's hosts, its statements limited."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import psycopg2
from psycopg2.errors import (
    DeadlockDetected,
    DuplicatePreparedStatement,
    FeatureNotSupported,
    InvalidSqlStatementName,
    ReadOnlySqlTransaction,
    SerializationFailure,
)
from psycopg2.extensions import connection, cursor, parse_dsn
from sqlalchemy import Engine, NullPool, create_engine

from prepared import Prepared
from time_limits import TimeLimit, TimeLimits
from timing import listeners
from waiting import Watch, poller

CONNECT_TIMEOUT = 5.0
"""Seconds to connect, for all hosts of the URL together."""
KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""Notice within a minute that the host of an idle connection is gone; Linux takes two hours."""
CONFLICTS = (SerializationFailure, DeadlockDetected)
"""PostgreSQL has undone the transaction because of another one."""
NOT_EXECUTED = (ReadOnlySqlTransaction, *CONFLICTS)
"""Errors that prove that their statement changed nothing."""
RESERVE = 0.1
"""Part of the time limit that remains when PostgreSQL gives up a statement, and its locks."""
IF_DIRECT = """
    SELECT set_config('enable_seqscan', 'off', false), set_config('statement_timeout', %s, false)
    WHERE pg_backend_pid() = %s"""
"""What a connection of our own gets, besides the limit of its statements: a plan is kept until the
next ANALYZE, and one that reads a small table as a whole would do so when the table has grown."""
NOT_PREPARED = (InvalidSqlStatementName, FeatureNotSupported)
"""Errors before the execution of a prepared statement: it is not there, or a column that it returns
has another type now."""
WITHOUT_SERVER = "server login has been failing"
"""What PgBouncer says, without an SQLSTATE, if it has no server: the statement was sent to none."""
READS = ("SELECT ", "BEGIN READ ONLY; ", "FETCH ", "ROLLBACK")
"""How statements begin that change nothing: PostgreSQL refuses a SELECT that contains a change, and
no function here makes one."""
NO_LIMIT = TimeLimit(TimeLimits(None))
HOST_LISTS = ("host", "hostaddr", "port")


class DatabaseTimeout(Exception):
    """The database did not answer in time. A change that was asked for may still be applied."""


class PooledConnection(connection):
    """A connection that knows what the work that uses it has done and how long it may take."""

    connect_by = math.inf
    """The time of the monotonic clock at which connecting is given up."""
    limit = NO_LIMIT
    """When the work is given up."""
    reserve = 0.0
    """Seconds before its end at which PostgreSQL gives a statement up."""
    enough = math.inf
    """Seconds that a statement needs no limit of its own for: the connection has one."""
    may_have_written = False
    """Whether a statement of this work has changed something, as far as is known."""
    watch: Watch | None = None
    """What waits for the server on the event loop."""
    prepared: set[str] | None = None
    """The names of what is prepared on it, if anything can be."""
    _poll: Callable[[float], Sequence[object]] | None = None

    def __init__(self, dsn: str, seconds: float) -> None:
        self.connect_by = time.monotonic() + seconds
        super().__init__(dsn)

    def limit_statements(self, seconds: float) -> None:
        """Limit the statements of work that may take some seconds, and let them be prepared.

        A pooler may send the next statement to another server, so nothing is kept there. It gives
        a number of its own for the server's process.

        Raises:
            psycopg2.OperationalError: There is no server; the connection is closed.

        """
        self.reserve = RESERVE * seconds
        limit = seconds - self.reserve
        try:
            self.autocommit = True
            with self.cursor(cursor_factory=cursor) as asking:
                asking.execute(IF_DIRECT, [f"{limit:.3f}s", self.info.backend_pid])
                if asking.fetchone():
                    self.enough = limit - self.reserve / 2
                    self.prepared = set()
        except psycopg2.Error:
            self.close()
            raise

    def has_input(self) -> bool:
        """Tell whether the server has sent something, or ended the connection."""
        if self._poll is None:
            self._poll = poller(self.fileno(), reading=True)
        return bool(self._poll(0))

    def close(self) -> None:
        """Close it, and stop watching it."""
        if self.watch:
            self.watch.close()
            self.watch = None
        super().close()


class _LimitedCursor(cursor):
    """A cursor that lets PostgreSQL end a statement that takes longer than its work may.

    A connection has a limit; a statement whose work has waited, or that goes through a pooler, has
    its own, in its message: `options=-c statement_timeout=…` is refused by transaction poolers, a
    SET would reach their other clients, and SET LOCAL alone is one more round trip.
    """

    connection: PooledConnection

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002, ANN401  # psycopg2's
        pooled = self.connection
        seconds = pooled.limit.end - time.monotonic() - pooled.reserve
        if seconds < pooled.reserve:
            raise DatabaseTimeout("too little time left for another statement")
        before = pooled.may_have_written
        pooled.may_have_written = before or not query.startswith(READS)
        began = time.time_ns() if listeners else 0
        failed = True
        limit = ""
        if seconds < pooled.enough:
            limit = f"SET LOCAL statement_timeout = {math.ceil(seconds * 1000)}; "
        try:
            if isinstance(query, Prepared) and pooled.prepared is not None:
                self._execute_prepared(limit, query, pooled.prepared, vars)
            else:
                super().execute(limit + query, vars)
            failed = False
        except psycopg2.Error as exc:
            if isinstance(exc, NOT_EXECUTED) or is_refused(exc):
                pooled.may_have_written = before
            raise
        finally:
            for listener in listeners:
                listener.executed(query, began, failed)

    def _execute_prepared(
        self,
        limit: str,
        statement: Prepared,
        prepared: set[str],
        values: Any,  # noqa: ANN401  # psycopg2's
    ) -> None:
        sql = statement.later if statement.name in prepared else statement.first
        try:
            super().execute(limit + sql, values)
            prepared.add(statement.name)
        except DuplicatePreparedStatement:
            # Nothing undoes a PREPARE, even if its message fails.
            prepared.add(statement.name)
            self._execute_prepared(limit, statement, prepared, values)
        except NOT_PREPARED:
            self.connection.prepared = None
            super().execute(limit + statement, values)


def is_refused(error: Exception) -> bool:
    """Tell whether PgBouncer has no server now."""
    return isinstance(error, psycopg2.OperationalError) and WITHOUT_SERVER in str(error)


class Servers:
    """The hosts of a URL. The one that answered last is tried first.

    libpq tries them in the URL's order, and leaves the time limit to those who wait for it. So one
    host that swallows packets would use up the time of all.
    """

    def __init__(self, url: str, **defaults: Any) -> None:  # noqa: ANN401  # psycopg2's
        given = parse_dsn(url)
        parameters = defaults | given
        seconds = float(given.get("connect_timeout") or 0)
        targets = _targets(parameters)
        self._seconds = seconds if seconds > 0 else CONNECT_TIMEOUT / len(targets)
        self._targets = [parameters | target for target in targets]

    def connect(self, time_limit: float | None = None) -> PooledConnection:
        """Connect to the first host that answers and is of the kind that the URL asks for.

        Args:
            time_limit: Seconds that work on the connection may take.

        Raises:
            psycopg2.OperationalError: None does; nothing was executed.

        """
        targets = self._targets
        factory = partial(PooledConnection, seconds=self._seconds)
        for number, target in enumerate(targets, 1):
            try:
                connected: PooledConnection = psycopg2.connect(**target, connection_factory=factory)
                if time_limit:
                    connected.limit_statements(time_limit)
            except psycopg2.OperationalError:
                if number == len(targets):
                    raise
            else:
                self._targets = sorted(targets, key=lambda each: each is not target)
                return connected
        raise AssertionError  # there is at least one


def _targets(parameters: Mapping[str, Any]) -> list[dict[str, str]]:
    """Split libpq's lists of hosts, addresses and ports, where it would try one by one itself."""
    lists = {name: str(parameters.get(name, "")).split(",") for name in HOST_LISTS}
    number = max(len(lists["host"]), len(lists["hostaddr"]))
    if number == 1 or parameters.get("target_session_attrs") == "prefer-standby":
        return [{}]
    return [
        {
            name: each[index] if len(each) > 1 else each[0]
            for name, each in lists.items()
            if any(each)
        }
        for index in range(number)
    ]


def engine(url: str, time_limit: float | None = None) -> Engine:
    """Return an engine without a pool; with a time limit, each statement is a transaction."""
    # Whatever the role's or the database's default is, this process sends UTF-8.
    defaults: dict[str, Any] = {"client_encoding": "UTF8", **KEEPALIVE}
    options: dict[str, Any] = {}
    if time_limit:
        defaults["tcp_user_timeout"] = round(time_limit * 1000)
        defaults["cursor_factory"] = _LimitedCursor
        options = {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}
    return create_engine(
        "postgresql+psycopg2://",
        creator=partial(Servers(url, **defaults).connect, time_limit),
        # Otherwise an error's message, and so the log, holds users' data.
        hide_parameters=True,
        # Two statements on each new connection, for a type that is not in use.
        use_native_hstore=False,
        poolclass=NullPool,
        **options,
    )
