"""`python main.py --check`: are the settings and the database fit for this version of the service.

For CI, and for the command that a platform runs before a release. It changes nothing.
"""

import asyncio
import logging
import sys
from typing import NoReturn

from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, select
from sqlmodel import Session, SQLModel

import models  # noqa: F401  # registers the tables
from config import Settings, startup_settings
from connection import DatabaseTimeout
from database import problem, reason_of
from pool import SessionPool
from statements import execute
from upgrade import alembic_config

MAY_CREATE_TABLES = "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"
IS_TAKEN = "SELECT to_regclass('tasks') IS NOT NULL"
CANNOT_CREATE = "its user may not create tables: GRANT CREATE ON SCHEMA public"
TAKEN = "it has a table tasks that this service's migrations have not made"
INVALID_INDEXES = (
    "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
    " AND indrelid IN (to_regclass('tasks'), to_regclass('idempotency_keys'))"
)
INVALID = (
    "its index {} is invalid: CREATE INDEX CONCURRENTLY is at work or has failed; wait, or drop the"
    " index and create it again"
)
TASKS = SQLModel.metadata.tables["tasks"]

logger = logging.getLogger(__name__)


class _Unfit(Exception):
    """The database cannot be used."""


def run() -> NoReturn:
    """Check, print one line, and exit: with 0 only if everything is right."""
    settings = startup_settings()
    logging.getLogger("alembic").setLevel(logging.WARNING)  # whose lines would be in the way
    try:
        found = asyncio.run(_check(settings))
    except Exception as exc:  # noqa: BLE001  # whatever it is, it is what the operator asked for
        logger.critical("The database cannot be used: %s", reason_of(exc))
        sys.exit(1)
    logger.info("The settings and the database are right; %s", found)
    sys.exit(0)


async def _check(settings: Settings) -> str:
    url = settings.database_url.get_secret_value()
    pool = SessionPool(url, pool_size=0, max_overflow=1)
    try:
        # The pool's own limit would make each statement a transaction, and nothing is to be kept.
        async with asyncio.timeout(settings.db_timeout):
            return await pool.run(_inspect)
    except TimeoutError:
        raise DatabaseTimeout(f"no answer within {settings.db_timeout} s") from None
    finally:
        pool.close()


def _inspect(session: Session) -> str:
    """Say what the start will find.

    Raises:
        _Unfit: It will find something that it cannot work with.

    """
    if trouble := problem(session):
        raise _Unfit(trouble)
    for (index,) in execute(session, INVALID_INDEXES):
        raise _Unfit(INVALID.format(index))
    connection = session.connection()
    script = ScriptDirectory.from_config(alembic_config())
    known = {revision.revision for revision in script.walk_revisions()}
    applied = set(MigrationContext.configure(connection).get_current_heads())
    if applied - known:
        _write(connection)
        return "the schema is of a newer version of the service"
    if applied != set(script.get_heads()):
        [(may_create,)] = execute(session, MAY_CREATE_TABLES)
        if not may_create:
            raise _Unfit(CANNOT_CREATE)
        [(is_taken,)] = execute(session, IS_TAKEN)
        if is_taken and not applied:
            raise _Unfit(TAKEN)
        return "the start will bring the schema up to date"
    _write(connection)
    return "the schema is up to date"


def _write(connection: Connection) -> None:
    """Find each table and column, and try every kind of change, in a transaction undone."""
    for table in SQLModel.metadata.sorted_tables:
        connection.execute(select(table).limit(0))
    added = connection.execute(
        TASKS.insert().values(user_id="--check", title="x").returning(TASKS.c.id)
    )
    own = TASKS.c.id == added.scalar_one()
    connection.execute(TASKS.update().where(own).values(title="y"))
    connection.execute(TASKS.delete().where(own))
    connection.rollback()
