"""How Alembic runs: one transaction under an advisory lock, for the service and for its command."""

from alembic import context
from sqlalchemy import Connection, func, select
from sqlmodel import SQLModel

import models  # noqa: F401  # registers the tables
from config import load_settings
from connection import engine

# Any constant of the project's own. A transaction-level lock works through transaction poolers.
LOCK_KEY = 0x746F646F
# Requests wait behind a migration that waits for a table. Above `deadlock_timeout`, one second:
# after that PostgreSQL ends an autovacuum that is in the way.
LOCK_TIMEOUT = "3s"


def upgrade(connection: Connection) -> None:
    """Run the migrations while no other worker does."""
    connection.execute(select(func.pg_advisory_xact_lock(LOCK_KEY)))
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
    context.configure(
        connection=connection, target_metadata=SQLModel.metadata, compare_server_default=True
    )
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    upgrade(given)
else:
    url = load_settings().database_url.get_secret_value()
    with engine(url).begin() as own:
        upgrade(own)
