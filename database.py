"""The database: transactions in threads of their own, reachability, and the schema's migrations."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Annotated, Concatenate, ParamSpec, TypeVar

import alembic.command
import alembic.config
from fastapi import Depends, Request
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlmodel import Session

from config import Settings

ALEMBIC_INI = Path(__file__).parent / "alembic.ini"
CONNECT_TIMEOUT = 5
HEALTH_TIMEOUT = 2.0
UNREACHABLE_RETRY = 2.0
FAILED_MIGRATION_RETRY = 30.0

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)


class Database:
    """The connections of one worker process: at most pool size + overflow, and one for health.

    There are as many threads as connections. So a transaction waits in one place only, for a
    thread: with fewer connections than threads the two can wait for each other.
    """

    def __init__(self, settings: Settings) -> None:
        connections = settings.db_pool_size + settings.db_max_overflow
        self._engine = _engine(settings, settings.db_pool_size, settings.db_max_overflow)
        self._executor = ThreadPoolExecutor(connections, "database")
        self._health_engine = _engine(settings, pool_size=1, max_overflow=0)
        self._health_executor = ThreadPoolExecutor(1, "health")
        self._probe: asyncio.Future[bool] | None = None

    async def in_transaction(
        self, work: Callable[Concatenate[Session, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work(session, …)` in a thread and commit before returning its result.

        An exception rolls back and is raised here.
        """

        def transact() -> T:
            # expire_on_commit would read returned rows again, after their session has ended.
            with Session(self._engine, expire_on_commit=False) as session, session.begin():
                return work(session, *args, **kwargs)

        run = partial(copy_context().run, transact)
        return await asyncio.get_running_loop().run_in_executor(self._executor, run)

    async def is_reachable(self) -> bool:
        """Tell within two seconds whether the database answers.

        The probe has a thread and a connection of its own, so that it never waits behind API
        traffic; callers at the same time share it, so that a hanging database costs one thread.
        """
        if self._probe is None or self._probe.done():
            loop = asyncio.get_running_loop()
            self._probe = loop.run_in_executor(self._health_executor, self._answers)
        await asyncio.wait({self._probe}, timeout=HEALTH_TIMEOUT)
        return self._probe.done() and self._probe.result()

    def _answers(self) -> bool:
        try:
            with self._health_engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError as exc:
            logger.warning("Database unreachable: %s", _reason(exc))
            return False
        return True

    async def migrate(self, attempted: asyncio.Event) -> None:
        """Bring the schema up to date, trying again until it is; set the event after one try."""
        while True:
            try:
                await asyncio.to_thread(self._upgrade)
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

    def _upgrade(self) -> None:
        config = alembic.config.Config(ALEMBIC_INI)
        with self._engine.begin() as connection:
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")

    def close(self) -> None:
        """Close all connections."""
        for executor in (self._executor, self._health_executor):
            executor.shutdown(wait=False, cancel_futures=True)
        self._engine.dispose()
        self._health_engine.dispose()


def _engine(settings: Settings, pool_size: int, max_overflow: int) -> Engine:
    url = make_url(settings.database_url.get_secret_value())
    # Without it a host that swallows packets holds a thread for minutes; the URL's own wins.
    timeout = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_TIMEOUT}
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=max_overflow,
        # Providers close idle connections; without the ping the next request would fail.
        pool_pre_ping=True,
        connect_args=timeout,
        # Otherwise an error's message, and so the log, holds users' data.
        hide_parameters=True,
    )


def _reason(exc: SQLAlchemyError) -> str:
    return " ".join(str(getattr(exc, "orig", None) or type(exc).__name__).split())


async def get_database(request: Request) -> Database:
    """Return the app's database."""
    database: Database = request.app.state.database
    return database


AppDatabase = Annotated[Database, Depends(get_database)]
