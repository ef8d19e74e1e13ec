"""The app's database: the session of a request, whether it is reachable, and its migrations."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from pathlib import Path
from typing import Annotated, TypeVar

from fastapi import Depends, Request
from psycopg2.errors import LockNotAvailable, ReadOnlySqlTransaction
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlmodel import Session

from config import Settings
from errors import report
from pool import PATIENCE, SessionPool
from statements import execute

NEWEST = max((Path(__file__).parent / "migrations/versions").glob("*.py")).name.partition("_")[0]
"""The revision of the newest migration; its file's name begins with it."""
VERSION_TABLE = (
    "SELECT current_setting('server_encoding'),"
    " to_regclass(quote_ident(current_schema()) || '.alembic_version')"
)
HEALTH_TIMEOUT = 2.0
UNREACHABLE_RETRY = 2.0
FAILED_MIGRATION_RETRY = 30.0
REPORT_INTERVAL = 60.0
NOT_UTF8 = (
    "its encoding is {}, which cannot hold every text: create a database with ENCODING 'UTF8'"
)
ADVICE = {
    "authentication failed": "correct the user or the password in DATABASE_URL",
    "no password supplied": "put the password into DATABASE_URL",
    'role "': "correct the user in DATABASE_URL",
    'database "': "create the database, or correct its name in DATABASE_URL",
    "could not translate host name": "correct the host in DATABASE_URL, or wait for DNS",
    "SSL": "correct sslmode in DATABASE_URL",
    "lock timeout": "end the transaction that has a table locked, or wait",
}
"""What to do, by the words of PostgreSQL and libpq: no SQLSTATE comes with a refused connection."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class _Unsuitable(Exception):
    """The database cannot hold the tasks."""


class _NewerSchema(Exception):
    """A newer version of the service has migrated the database: its revision is unknown here."""


class Database:
    """The connections of one worker process: at most pool size + overflow, and two more.

    Those are for the health check and for the migrations at start: neither waits behind the API.
    """

    def __init__(self, settings: Settings) -> None:
        url = settings.database_url.get_secret_value()
        self.pool = SessionPool(
            url, settings.db_pool_size, settings.db_max_overflow, settings.db_timeout, PATIENCE
        )
        self._health = SessionPool(url, pool_size=1, time_limit=HEALTH_TIMEOUT)
        self._migrations = SessionPool(url, pool_size=0, max_overflow=1)
        self._probe: asyncio.Task[bool] | None = None
        self._reported = ("", 0.0)

    def run(self, work: Callable[[Session], T], twin: Hashable = None) -> Awaitable[T]:
        """Run `work(session)`, which waits without blocking; each statement is a transaction.

        Work with the same `twin` runs one after the other.

        Raises:
            DatabaseTimeout: It took longer than DB_TIMEOUT.

        """
        return self.pool.run(work, twin)

    async def is_reachable(self) -> bool:
        """Tell within two seconds whether the database answers.

        Callers at the same time share one probe.
        """
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._answers())
        return await asyncio.shield(self._probe)

    async def _answers(self) -> bool:
        try:
            trouble = await self._health.run(problem)
        except Exception as exc:  # noqa: BLE001  # whatever the database says, the answer is 503
            trouble = reason_of(exc)
        if trouble:
            logger.warning("Database unusable: %s", trouble)
        return trouble is None

    async def migrate(self, attempted: asyncio.Event) -> None:
        """Bring the schema up to date, trying again until it is; set the event after one try."""
        while True:
            delay = UNREACHABLE_RETRY
            try:
                await self._migrations.run(_upgrade)
            except (OperationalError, InterfaceError, _Unsuitable) as exc:
                self._report("Schema not applied yet: %s", reason_of(exc))
                if isinstance(getattr(exc, "orig", None), LockNotAvailable):
                    # Not attempted yet: the start still waits for it.
                    await asyncio.sleep(delay)
                    continue
            except _NewerSchema as exc:
                logger.warning("The schema is of a newer version of the service: %s", exc)
                attempted.set()
                return
            except Exception as exc:
                logger.exception("Schema not applied, the migration failed")
                report(exc, "migration")
                delay = FAILED_MIGRATION_RETRY
            else:
                logger.info("Schema is up to date")
                attempted.set()
                return
            attempted.set()
            await asyncio.sleep(delay)

    def _report(self, message: str, reason: str) -> None:
        """Log what is tried every two seconds once a minute, unless the reason changes."""
        now = time.monotonic()
        if reason != self._reported[0] or now > self._reported[1] + REPORT_INTERVAL:
            self._reported = reason, now
            logger.warning(message, reason)

    def close(self) -> None:
        """Close all connections."""
        for pool in (self.pool, self._health, self._migrations):
            pool.close()


def problem(session: Session) -> str | None:
    """Ask the server, and say why it cannot serve tasks if it cannot."""
    [(encoding, read_only)] = execute(
        session,
        "SELECT current_setting('server_encoding'), current_setting('transaction_read_only')",
    )
    if encoding != "UTF8":
        return NOT_UTF8.format(encoding)
    if read_only == "on":
        # Also how a standby answers. The pool then looks for a server that can write.
        raise ReadOnlySqlTransaction("it is read-only")
    return None


def _upgrade(session: Session) -> None:
    connection = session.connection()
    [(encoding, table)] = connection.exec_driver_sql(VERSION_TABLE)
    if encoding != "UTF8":
        raise _Unsuitable(NOT_UTF8.format(encoding))
    if table:
        applied = connection.exec_driver_sql(f"SELECT version_num FROM {table}").scalars().all()  # noqa: S608  # the name as PostgreSQL quotes it
        if applied == [NEWEST]:
            return
    # Alembic takes a quarter of the start's time and 10 MB.
    from alembic.util.exc import CommandError  # noqa: PLC0415

    from upgrade import upgrade  # noqa: PLC0415

    try:
        upgrade(connection)
    except CommandError as exc:
        raise _NewerSchema(exc) from exc
    session.commit()


def reason_of(exc: Exception) -> str:
    """Say in one line what is wrong, and what to do where more than waiting helps."""
    said = " ".join(str(getattr(exc, "orig", None) or exc or type(exc).__name__).split())
    for words, advice in ADVICE.items():
        if words in said:
            return f"{advice} ({said})"
    return said


async def get_database(request: Request) -> Database:
    """Return the app's database."""
    database: Database = request.app.state.database
    return database


async def get_session() -> Session:
    """Declare that an endpoint needs a session; its route takes one from the pool.

    Raises:
        TypeError: The route is not an OwnerRoute, and FastAPI itself has called this.

    """
    raise TypeError("an endpoint with a DbSession needs APIRouter(route_class=OwnerRoute)")


AppDatabase = Annotated[Database, Depends(get_database)]
DbSession = Annotated[Session, Depends(get_session)]
