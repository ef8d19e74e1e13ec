"""The statements on tasks; each names the owner, so that no check can be forgotten or raced.

They are built once and select columns, not entities: building a statement takes longer than
PostgreSQL does to answer it, and so does making objects of a hundred rows.
"""

import unicodedata
from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypedDict

from sqlalchemy import (
    Executable,
    Row,
    bindparam,
    delete,
    func,
    insert,
    not_,
    select,
    update,
)
from sqlmodel import Session

from connections import fairly
from errors import NotTaskOwner, TaskNotFound
from models import Task, in_utc
from schemas import TaskCreate, TaskSort, TaskStatus, TaskUpdate

INT4_MAX = 2**31 - 1


class TaskRow(TypedDict):
    """A row of the tasks table; its moments are naive UTC."""

    id: int
    user_id: str
    title: str
    description: str | None
    completed: bool
    created_at: datetime
    updated_at: datetime


_tasks = Task.metadata.tables["tasks"]
_task = _tasks.columns
_names = tuple(_task.keys())
_owned = (_task.user_id == bindparam("owner")) & (_task.id == bindparam("task_id"))
# clock_timestamp(): now() is the transaction's start, and a later change could be older.
_now = in_utc(func.clock_timestamp())

_newest_first = (
    select(*_task)
    .where(_task.user_id == bindparam("owner"))
    .order_by(_task.created_at.desc(), _task.id.desc())
)
LIST = {
    TaskStatus.ALL: _newest_first,
    TaskStatus.PENDING: _newest_first.where(not_(_task.completed)),
    TaskStatus.COMPLETED: _newest_first.where(_task.completed),
}
CREATE = insert(_tasks).returning(*_task)
GET = select(*_task).where(_owned)
UPDATE = update(_tasks).where(_owned).values(updated_at=_now).returning(*_task)
TOGGLE = UPDATE.values(completed=not_(_task.completed))
DELETE = delete(_tasks).where(_owned).returning(_task.id)
EXISTS = select(_task.id).where(_task.id == bindparam("task_id"))


def list_tasks(session: Session, user_id: str, status: TaskStatus, sort: TaskSort) -> list[TaskRow]:
    """Return the user's tasks, newest first or by title."""
    rows = session.execute(LIST[status], {"owner": user_id})
    tasks = [_as_dict(row) for row in fairly(rows)]
    if sort is TaskSort.TITLE:
        order = {task["id"]: _alphabetical(task) for task in fairly(tasks)}
        tasks.sort(key=lambda task: order[task["id"]])
    return tasks


def create_task(session: Session, user_id: str, body: TaskCreate) -> TaskRow:
    """Insert a task; the database sets its id, status and timestamps."""
    values = {"user_id": user_id, "title": body.title, "description": body.description}
    return _as_dict(session.execute(CREATE, values).one())


def get_task(session: Session, user_id: str, task_id: int) -> TaskRow:
    """Return the user's task.

    Raises:
        TaskNotFound: There is no such task.
        NotTaskOwner: It belongs to another user.

    """
    return _as_dict(_on_one(session, GET, user_id, task_id))


def update_task(session: Session, user_id: str, task_id: int, body: TaskUpdate) -> TaskRow:
    """Change what the body holds, and nothing else; raise as `get_task` does."""
    changes = body.changes()
    if not changes:
        return get_task(session, user_id, task_id)
    return _as_dict(_on_one(session, UPDATE, user_id, task_id, changes))


def toggle_task(session: Session, user_id: str, task_id: int) -> TaskRow:
    """Negate `completed`; raise as `get_task` does."""
    return _as_dict(_on_one(session, TOGGLE, user_id, task_id))


def delete_task(session: Session, user_id: str, task_id: int) -> None:
    """Delete the user's task for good; raise as `get_task` does."""
    _on_one(session, DELETE, user_id, task_id)


def _on_one(
    session: Session,
    statement: Executable,
    user_id: str,
    task_id: int,
    changes: dict[str, Any] | None = None,
) -> Row[Any]:
    """Return the row of a statement on the user's task, or else say why there is none."""
    if abs(task_id) > INT4_MAX:
        # The column cannot hold it; PostgreSQL would compare it as numeric with every row, for
        # the index is of integers.
        raise TaskNotFound(task_id)
    values = {"owner": user_id, "task_id": task_id, **(changes or {})}
    row = session.execute(statement, values).one_or_none()
    if row is not None:
        return row
    if session.execute(EXISTS, {"task_id": task_id}).one_or_none() is None:
        raise TaskNotFound(task_id)
    raise NotTaskOwner(f"task {task_id}")


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
