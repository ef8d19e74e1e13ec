"""The statements on tasks; each names the owner, so that no check can be forgotten or raced.

SQLAlchemy builds them, once, and psycopg2 executes them: building a statement anew, executing it
through SQLAlchemy and making entities of the rows each take longer than PostgreSQL does.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, TypedDict

from sqlalchemy import (
    ClauseElement,
    bindparam,
    delete,
    func,
    insert,
    make_url,
    not_,
    select,
    update,
)
from sqlmodel import Session

from connections import TURN, give_way
from errors import NotTaskOwner, TaskNotFound
from models import Task, in_utc
from schemas import TaskCreate, TaskSort, TaskStatus, TaskUpdate

INT4_MAX = 2**31 - 1
DIALECT = make_url("postgresql+psycopg2://").get_dialect()()


class TaskRow(TypedDict):
    """A row of the tasks table; its moments are naive UTC."""

    id: int
    user_id: str
    title: str
    description: str | None
    completed: bool
    created_at: datetime
    updated_at: datetime


def _sql(statement: ClauseElement, *columns: str) -> str:
    """Return the SQL of a statement that also sets the columns."""
    return str(statement.compile(dialect=DIALECT, column_keys=columns or None))


_tasks = Task.metadata.tables["tasks"]
_task = _tasks.columns
_names = tuple(_task.keys())
_owned = (_task.user_id == bindparam("owner")) & (_task.id == bindparam("task_id"))
_list = (
    select(*_task)
    .where(_task.user_id == bindparam("owner"))
    .order_by(_task.created_at.desc(), _task.id.desc())
)
# clock_timestamp(): now() is the transaction's start, and a later change could be older.
_update = (
    update(_tasks).where(_owned).values(updated_at=in_utc(func.clock_timestamp())).returning(*_task)
)

LIST = {
    TaskStatus.ALL: _sql(_list),
    TaskStatus.PENDING: _sql(_list.where(not_(_task.completed))),
    TaskStatus.COMPLETED: _sql(_list.where(_task.completed)),
}
CREATE = _sql(insert(_tasks).returning(*_task), "user_id", "title", "description")
GET = _sql(select(*_task).where(_owned))
TOGGLE = _sql(_update.values(completed=not_(_task.completed)))
DELETE = _sql(delete(_tasks).where(_owned).returning(_task.id))
EXISTS = _sql(select(_task.id).where(_task.id == bindparam("task_id")))


@cache
def _update_of(*columns: str) -> str:
    return _sql(_update, *columns)


def list_tasks(session: Session, user_id: str, status: TaskStatus, sort: TaskSort) -> list[TaskRow]:
    """Return the user's tasks, newest first or by title."""
    rows = _execute(session, LIST[status], {"owner": user_id})
    tasks: list[TaskRow] = []
    order: dict[int, tuple[str, str, int]] = {}
    for start in range(0, len(rows), TURN):
        if start:
            give_way()
        turn = [_as_dict(row) for row in rows[start : start + TURN]]
        tasks += turn
        if sort is TaskSort.TITLE:
            order |= {task["id"]: _alphabetical(task) for task in turn}
    if sort is TaskSort.TITLE:
        tasks.sort(key=lambda task: order[task["id"]])
    return tasks


def create_task(session: Session, user_id: str, body: TaskCreate) -> TaskRow:
    """Insert a task that is not completed; the database sets its id and timestamps."""
    [row] = _execute(session, CREATE, {"user_id": user_id, "completed": False, **dict(body)})
    return _as_dict(row)


def get_task(session: Session, user_id: str, task_id: int) -> TaskRow:
    """Return the user's task.

    Raises:
        TaskNotFound: There is no such task.
        NotTaskOwner: It belongs to another user.

    """
    return _as_dict(_execute_on_one(session, GET, user_id, task_id))


def update_task(session: Session, user_id: str, task_id: int, body: TaskUpdate) -> TaskRow:
    """Change what the body holds, and nothing else; raise as `get_task` does."""
    changes = body.changes()
    if not changes:
        return get_task(session, user_id, task_id)
    return _as_dict(_execute_on_one(session, _update_of(*changes), user_id, task_id, changes))


def toggle_task(session: Session, user_id: str, task_id: int) -> TaskRow:
    """Negate `completed`; raise as `get_task` does."""
    return _as_dict(_execute_on_one(session, TOGGLE, user_id, task_id))


def delete_task(session: Session, user_id: str, task_id: int) -> None:
    """Delete the user's task for good; raise as `get_task` does."""
    _execute_on_one(session, DELETE, user_id, task_id)


def _execute_on_one(
    session: Session,
    sql: str,
    user_id: str,
    task_id: int,
    changes: dict[str, Any] | None = None,
) -> Sequence[Any]:
    """Return the row of a statement on the user's task, or else say why there is none."""
    if abs(task_id) > INT4_MAX:
        # The column cannot hold it; PostgreSQL would compare it as numeric with every row, for
        # the index is of integers.
        raise TaskNotFound(task_id)
    rows = _execute(session, sql, {"owner": user_id, "task_id": task_id, **(changes or {})})
    if rows:
        return rows[0]
    if not _execute(session, EXISTS, {"task_id": task_id}):
        raise TaskNotFound(task_id)
    raise NotTaskOwner(f"task {task_id}")


def _execute(session: Session, sql: str, values: dict[str, Any]) -> Sequence[Sequence[Any]]:
    cursor = session.connection().connection.cursor()
    cursor.execute(sql, values)
    rows: Sequence[Sequence[Any]] = cursor.fetchall()
    cursor.close()
    return rows


def _as_dict(row: Iterable[Any]) -> TaskRow:
    return dict(zip(_names, row, strict=True))  # type: ignore[return-value]


def _alphabetical(task: TaskRow) -> tuple[str, str, int]:
    """Order by letter, whatever the case; an accent decides only between equal letters.

    In Python, because no collation of PostgreSQL's does this on every server: the databases'
    locales differ, and not every server has ICU.
    """
    letters = folded = task["title"].casefold()
    if not folded.isascii():
        decomposed = unicodedata.normalize("NFKD", folded)
        letters = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return letters, folded, task["id"]
