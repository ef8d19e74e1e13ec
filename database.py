"""The database: the API's work on it, whether it is reachable, and the schema's migrations."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Concatenate, ParamSpec, TypeVar

import alembic.command
import alembic.config
from fastapi import Depends, Request
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlmodel import Session, select

from config import Settings
from connections import ConnectionThreads, DatabaseTimeout

ALEMBIC_INI = Path(__file__).parent / "alembic.ini"
HEALTH_TIMEOUT = 2.0
UNREACHABLE_RETRY = 2.0
FAILED_MIGRATION_RETRY = 30.0

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)


class Database:
    """The connections of one worker process: at most pool size + overflow, and two of its own.

    Its own are for the health check and for the migrations at start: neither waits behind the API.
    """

    def __init__(self, settings: Settings) -> None:
        url = settings.database_url.get_secret_value()
        self._api = ConnectionThreads(
            url, settings.db_pool_size, settings.db_max_overflow, settings.db_timeout
        )
        self._own = ConnectionThreads(url, pool_size=1, max_overflow=1)
        self._probe: asyncio.Task[bool] | None = None

    async def run(
        self, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work(session, …)` in a thread; each statement is a transaction of its own.

        Once it has changed something, the work may only read.

        Raises:
            DatabaseTimeout: It took longer than DB_TIMEOUT.

        """
        return await self._api.run(lambda session: work(session, *args, **kwargs))

    async def is_reachable(self) -> bool:
        """Tell within two seconds whether the database answers.

        Callers at the same time share one probe, so that a hanging database costs one thread.
        """
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._answers())
        return await asyncio.shield(self._probe)

    async def _answers(self) -> bool:
        try:
            await self._own.run(_ask, HEALTH_TIMEOUT)
        except (SQLAlchemyError, DatabaseTimeout) as exc:
            logger.warning("Database unreachable: %s", _reason(exc))
            return False
        return True

    async def migrate(self, attempted: asyncio.Event) -> None:
        """Bring the schema up to date, trying again until it is; set the event after one try."""
        while True:
            try:
                await self._own.run(_upgrade)
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
        self._api.close()
        self._own.close()


def _ask(session: Session) -> None:
    session.exec(select(1))


def _upgrade(session: Session) -> None:
    config = alembic.config.Config(ALEMBIC_INI)
    config.attributes["connection"] = session.connection()
    alembic.command.upgrade(config, "head")


def _reason(exc: Exception) -> str:
    return " ".join(str(getattr(exc, "orig", None) or exc or type(exc).__name__).split())


async def get_database(request: Request) -> Database:
    """Return the app's database."""
    database: Database = request.app.state.database
    return database


AppDatabase = Annotated[Database, Depends(get_database)]
