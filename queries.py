"""The statements on tasks; each names the owner, so that no check can be forgotten or raced.

SQLAlchemy builds them, once, and psycopg2 executes them. `Session.execute` of a statement that is
already built costs 1.25 to 1.4 times the CPU of a whole request, and entities cost more.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    TIMESTAMP,
    ClauseElement,
    Delete,
    Select,
    Update,
    any_,
    bindparam,
    delete,
    false,
    func,
    insert,
    literal_column,
    make_url,
    not_,
    select,
    update,
)
from sqlmodel import Session

import etags
from errors import NotTaskOwner, PreconditionFailed, TaskNotFound
from models import Task, in_utc
from prepared import Prepared
from schemas import TaskResponse
from statements import execute

INT4_MAX = 2**31 - 1
DIALECT = make_url("postgresql+psycopg2://").get_dialect()()

TaskRow = dict[str, Any]
"""The fields of `TaskResponse`, with naive datetimes in UTC."""


class OneTask(NamedTuple):
    """A statement on one of the user's tasks, for every version of it and for some."""

    whatever: Prepared
    if_match: Prepared


def sql_of(statement: ClauseElement, *columns: str) -> str:
    """Return the SQL of a statement that also sets the columns."""
    return str(statement.compile(dialect=DIALECT, column_keys=columns or None))


TASKS = Task.metadata.tables["tasks"]
TASK = TASKS.columns
FIELDS = tuple(TaskResponse.model_fields)
RETURNED = [TASK[name] for name in FIELDS]
_owned = (TASK.user_id == bindparam("owner")) & (TASK.id == bindparam("task_id"))
_unchanged = TASK.updated_at == any_(bindparam("versions", type_=ARRAY(TIMESTAMP)))
CHANGED_NOW = func.greatest(
    TASK.updated_at + literal_column("interval '1 microsecond'"),
    in_utc(func.statement_timestamp()),
)
"""`updated_at` after a change: it grows with each, even if the clock is set back."""
_update = update(TASKS).where(_owned).values(updated_at=CHANGED_NOW).returning(*RETURNED)


def _one_task(statement: Select[Any] | Update | Delete, *columns: str) -> OneTask:
    whatever = sql_of(statement, *columns)
    return OneTask(Prepared(whatever), Prepared(sql_of(statement.where(_unchanged), *columns)))


_create = insert(TASKS).values(completed=false()).returning(*RETURNED)
CREATE = Prepared(sql_of(_create, "user_id", "title", "description"))
GET = _one_task(select(*RETURNED).where(_owned))
TOGGLE = _one_task(_update.values(completed=not_(TASK.completed)))
DELETE = _one_task(delete(TASKS).where(_owned).returning(*RETURNED))
EXISTS = sql_of(select(TASK.user_id, TASK.updated_at).where(TASK.id == bindparam("task_id")))


@cache
def update_of(*columns: str) -> OneTask:
    """Return the statement that changes these columns of one task, and none if there are none."""
    return _one_task(_update, *columns) if columns else GET


def one_task(
    session: Session,
    statement: OneTask,
    user_id: str,
    task_id: int,
    if_match: Sequence[str] | None = None,
    **changes: object,
) -> TaskRow:
    """Execute a statement on the user's task, if it is one of the versions; return the task.

    Raises:
        TaskNotFound: There is no such task.
        NotTaskOwner: It belongs to another user.
        PreconditionFailed: It is another version.

    """
    if abs(task_id) > INT4_MAX:
        # The column cannot hold it; PostgreSQL would compare it as numeric with every row, for
        # the index is of integers.
        raise TaskNotFound(task_id)
    values = {"owner": user_id, "task_id": task_id, **changes}
    if if_match is None:
        rows = execute(session, statement.whatever, values)
    else:
        values["versions"] = etags.versions(if_match)
        rows = execute(session, statement.if_match, values)
    if rows:
        return as_dict(rows[0])
    existing = execute(session, EXISTS, {"task_id": task_id})
    if existing and existing[0][0] != user_id:
        raise NotTaskOwner(f"task {task_id}")
    if existing and if_match is not None:
        raise PreconditionFailed(etags.version_tag(existing[0][1]))
    raise TaskNotFound(task_id)


def new_task(session: Session, user_id: str, title: str, description: str | None) -> TaskRow:
    """Insert a task that is not completed; the database sets its id and timestamps."""
    values = {"user_id": user_id, "title": title, "description": description}
    [row] = execute(session, CREATE, values)
    return as_dict(row)


def as_dict(row: Any) -> TaskRow:  # noqa: ANN401  # psycopg2's tuple
    """Name the fields of a row, which are `FIELDS`; `dict(zip())` takes twice as long."""
    task_id, user_id, title, description, completed, created_at, updated_at = row
    return {
        "id": task_id,
        "user_id": user_id,
        "title": title,
        "description": description,
        "completed": completed,
        "created_at": created_at,
        "updated_at": updated_at,
    }
