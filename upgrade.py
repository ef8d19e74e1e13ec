"""Applies the migrations with Alembic, which is loaded only if the schema is not up to date."""

from pathlib import Path

import alembic.command
from alembic.config import Config
from sqlalchemy import Connection

ALEMBIC_INI = Path(__file__).parent / "alembic.ini"


def alembic_config() -> Config:
    """Return where the migrations are."""
    return Config(ALEMBIC_INI)


def upgrade(connection: Connection) -> None:
    """Apply the migrations that the database does not have yet.

    Raises:
        CommandError: It has one that this version of the service does not know.

    """
    config = alembic_config()
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")
