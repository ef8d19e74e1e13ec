"""The database: the API's work on it, whether it is reachable, and the schema's migrations."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar, TypeVarTuple

import alembic.command
import alembic.config
from fastapi import Depends, Request
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlmodel import Session, select

from config import Settings
from connections import DatabaseTimeout, SessionPool

ALEMBIC_INI = Path(__file__).parent / "alembic.ini"
HEALTH_TIMEOUT = 2.0
UNREACHABLE_RETRY = 2.0
FAILED_MIGRATION_RETRY = 30.0

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

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

    async def run(self, work: Callable[[Session, *Ts], T], *args: *Ts) -> T:
        """Run `work(session, …)`, which waits without blocking; each statement is a transaction.

        Once it has changed something, the work may only read.

        Raises:
            DatabaseTimeout: It took longer than DB_TIMEOUT.

        """
        return await self._api.run(work, *args)

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
        except (SQLAlchemyError, DatabaseTimeout) as exc:
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
    session.exec(select(1))


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


AppDatabase = Annotated[Database, Depends(get_database)]
