"""The app's database: the session of a request, whether it is reachable, and its migrations."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import alembic.command
import alembic.config
import psycopg2
from fastapi import Depends, Request
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlmodel import Session

from config import Settings
from pool import DatabaseTimeout, SessionPool, execute

ALEMBIC_INI = Path(__file__).parent / "alembic.ini"
HEALTH_TIMEOUT = 2.0
UNREACHABLE_RETRY = 2.0
FAILED_MIGRATION_RETRY = 30.0

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Database:
    """The connections of one worker process: at most pool size + overflow, and two more.

    Those are for the health check and for the migrations at start: neither waits behind the API.
    """

    def __init__(self, settings: Settings) -> None:
        url = settings.database_url.get_secret_value()
        self._api = SessionPool(
            url, settings.db_pool_size, settings.db_max_overflow, settings.db_timeout
        )
        self._health = SessionPool(url, pool_size=1, time_limit=HEALTH_TIMEOUT)
        self._migrations = SessionPool(url, pool_size=0, max_overflow=1)
        self._probe: asyncio.Task[bool] | None = None

    async def run(self, work: Callable[[Session], T]) -> T:
        """Run `work(session)`, which waits without blocking; each statement is a transaction.

        Raises:
            DatabaseTimeout: It took longer than DB_TIMEOUT.

        """
        return await self._api.run(work)

    async def is_reachable(self) -> bool:
        """Tell within two seconds whether the database answers.

        Callers at the same time share one probe.
        """
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._answers())
        return await asyncio.shield(self._probe)

    async def _answers(self) -> bool:
        try:
            await self._health.run(_ask)
        except (SQLAlchemyError, psycopg2.Error, DatabaseTimeout) as exc:
            logger.warning("Database unreachable: %s", _reason(exc))
            return False
        return True

    async def migrate(self, attempted: asyncio.Event) -> None:
        """Bring the schema up to date, trying again until it is; set the event after one try."""
        while True:
            try:
                await self._migrations.run(_upgrade)
            except (OperationalError, InterfaceError) as exc:
                logger.warning("Schema not applied yet, database unreachable: %s", _reason(exc))
                delay = UNREACHABLE_RETRY
            except Exception:
                logger.exception("Schema not applied, the migration failed")
                delay = FAILED_MIGRATION_RETRY
            else:
                logger.info("Schema is up to date")
                attempted.set()
                return
            attempted.set()
            await asyncio.sleep(delay)

    def close(self) -> None:
        """Close all connections."""
        for pool in (self._api, self._health, self._migrations):
            pool.close()


def _ask(session: Session) -> None:
    execute(session, "SELECT 1")


def _upgrade(session: Session) -> None:
    config = alembic.config.Config(ALEMBIC_INI)
    config.attributes["connection"] = session.connection()
    alembic.command.upgrade(config, "head")
    session.commit()


def _reason(exc: Exception) -> str:
    return " ".join(str(getattr(exc, "orig", None) or exc or type(exc).__name__).split())


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
