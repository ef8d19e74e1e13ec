"""The tasks table."""

from datetime import UTC, datetime

from sqlalchemy import (
    TIMESTAMP,
    ColumnElement,
    Dialect,
    Index,
    Text,
    TypeDecorator,
    desc,
    false,
    func,
)
from sqlmodel import Field, SQLModel

USER_ID_MAX_LENGTH = 255
TITLE_MAX_LENGTH = 200
DESCRIPTION_MAX_LENGTH = 1000


class UtcTimestamp(TypeDecorator[datetime]):
    """TIMESTAMP without time zone that holds UTC, an aware `datetime` in Python.

    SQLModel's own type for `datetime` would make the column TIMESTAMP WITH TIME ZONE.
    """

    impl = TIMESTAMP
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store the moment as naive UTC."""
        del dialect
        return value and value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Read naive UTC as an aware moment."""
        del dialect
        return value and value.replace(tzinfo=UTC)


def in_utc(moment: ColumnElement[datetime]) -> ColumnElement[datetime]:
    """Convert a moment to naive UTC in SQL, whatever the session's time zone."""
    return func.timezone("utc", moment)


class Task(SQLModel, table=True):
    """A task of one user; the database fills in what is not given."""

    __tablename__ = "tasks"
    __table_args__ = (
        Index("idx_tasks_user_id", "user_id"),
        Index("idx_tasks_user_completed", "user_id", "completed"),
        Index("idx_tasks_created_at", desc("created_at")),
    )

    id: int | None = Field(default=None, primary_key=True)
    user_id: str = Field(max_length=USER_ID_MAX_LENGTH)
    title: str = Field(min_length=1, max_length=TITLE_MAX_LENGTH)
    description: str | None = Field(default=None, max_length=DESCRIPTION_MAX_LENGTH, sa_type=Text)
    completed: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    created_at: datetime = Field(
        sa_type=UtcTimestamp, sa_column_kwargs={"server_default": in_utc(func.now())}
    )
    updated_at: datetime = Field(
        sa_type=UtcTimestamp, sa_column_kwargs={"server_default": in_utc(func.now())}
    )
