"""The database's tables."""

from datetime import datetime

from pydantic import NaiveDatetime
from sqlalchemy import ColumnElement, Index, Text, desc, false, func, literal_column, text
from sqlmodel import Field, SQLModel

USER_ID_MAX_LENGTH = 255
TITLE_MAX_LENGTH = 200
DESCRIPTION_MAX_LENGTH = 1000
KEY_MAX_LENGTH = 255


def in_utc(moment: ColumnElement[datetime]) -> ColumnElement[datetime]:
    """Convert a moment to naive UTC in SQL, whatever the session's time zone."""
    return func.timezone(literal_column("'utc'"), moment)


class Task(SQLModel, table=True):
    """A task of one user; the database fills in what is not given."""

    __tablename__ = "tasks"
    __table_args__ = (
        Index("idx_tasks_user_id", "user_id"),
        Index("idx_tasks_user_completed", "user_id", "completed"),
        Index("idx_tasks_created_at", desc("created_at")),
        # For pages: see lists.py. The expression is written as PostgreSQL writes it.
        Index(
            "idx_tasks_user_completed_created",
            *("user_id", "completed", text("(created_at + '00:00:00'::interval)"), "id"),
        ),
        Index("idx_tasks_user_completed_updated", "user_id", "completed", "updated_at", "id"),
    )

    id: int | None = Field(default=None, primary_key=True)
    user_id: str = Field(max_length=USER_ID_MAX_LENGTH)
    title: str = Field(min_length=1, max_length=TITLE_MAX_LENGTH)
    description: str | None = Field(default=None, max_length=DESCRIPTION_MAX_LENGTH, sa_type=Text)
    completed: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    # Naive: TIMESTAMP without time zone, which holds UTC.
    created_at: NaiveDatetime = Field(sa_column_kwargs={"server_default": in_utc(func.now())})
    updated_at: NaiveDatetime = Field(sa_column_kwargs={"server_default": in_utc(func.now())})


class KeyClaim(SQLModel, table=True):
    """An `Idempotency-Key` of one user, and the task that it created."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("idx_idempotency_keys_created_at", "created_at"),)

    user_id: str = Field(max_length=USER_ID_MAX_LENGTH, primary_key=True)
    key: str = Field(max_length=KEY_MAX_LENGTH, primary_key=True)
    fingerprint: bytes
    # No foreign key: the first response is repeated even if the task is deleted.
    task_id: int
    created_at: NaiveDatetime
