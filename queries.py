"""The statements on tasks; each names the owner, so that no check can be forgotten or raced.

SQLAlchemy builds them, once, and psycopg2 executes them. `Session.execute` of a statement that is
already built costs 1.25 to 1.4 times the CPU of a whole request, and entities cost more.
"""

import unicodedata
from functools import cache
from typing import Any

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

from errors import NotTaskOwner, TaskNotFound
from models import Task, in_utc
from pool import TURN, execute, give_way
from schemas import TaskResponse, TaskSort, TaskStatus

INT4_MAX = 2**31 - 1
DIALECT = make_url("postgresql+psycopg2://").get_dialect()()

TaskRow = dict[str, Any]
"""The fields of `TaskResponse`, with naive datetimes in UTC."""


def _sql(statement: ClauseElement, *columns: str) -> str:
    """Return the SQL of a statement that also sets the columns."""
    return str(statement.compile(dialect=DIALECT, column_keys=columns or None))


_tasks = Task.metadata.tables["tasks"]
_task = _tasks.columns
_fields = tuple(TaskResponse.model_fields)
_returned = [_task[name] for name in _fields]
_owned = (_task.user_id == bindparam("owner")) & (_task.id == bindparam("task_id"))
_list = (
    select(*_returned)
    .where(_task.user_id == bindparam("owner"))
    .order_by(_task.created_at.desc(), _task.id.desc())
)
# clock_timestamp(): now() is the transaction's start, and a later change could be older.
_update = (
    update(_tasks)
    .where(_owned)
    .values(updated_at=in_utc(func.clock_timestamp()))
    .returning(*_returned)
)

LIST = {
    TaskStatus.ALL: _sql(_list),
    TaskStatus.PENDING: _sql(_list.where(not_(_task.completed))),
    TaskStatus.COMPLETED: _sql(_list.where(_task.completed)),
}
CREATE = _sql(insert(_tasks).returning(*_returned), "user_id", "title", "description", "completed")
GET = _sql(select(*_returned).where(_owned))
TOGGLE = _sql(_update.values(completed=not_(_task.completed)))
DELETE = _sql(delete(_tasks).where(_owned).returning(*_returned))
EXISTS = _sql(select(_task.id).where(_task.id == bindparam("task_id")))


@cache
def update_of(*columns: str) -> str:
    """Return the statement that changes these columns of one task, and none if there are none."""
    return _sql(_update, *columns) if columns else GET


def one_task(
    session: Session, statement: str, user_id: str, task_id: int, **changes: object
) -> TaskRow:
    """Execute a statement on the user's task; return the task.

    Raises:
        TaskNotFound: There is no such task.
        NotTaskOwner: It belongs to another user.

    """
    if abs(task_id) > INT4_MAX:
        # The column cannot hold it; PostgreSQL would compare it as numeric with every row, for
        # the index is of integers.
        raise TaskNotFound(task_id)
    rows = execute(session, statement, {"owner": user_id, "task_id": task_id, **changes})
    if rows:
        return _as_dict(rows[0])
    if not execute(session, EXISTS, {"task_id": task_id}):
        raise TaskNotFound(task_id)
    raise NotTaskOwner(f"task {task_id}")


def new_task(session: Session, user_id: str, title: str, description: str | None) -> TaskRow:
    """Insert a task that is not completed; the database sets its id and timestamps."""
    values = {"user_id": user_id, "title": title, "description": description, "completed": False}
    [row] = execute(session, CREATE, values)
    return _as_dict(row)


def all_tasks(session: Session, user_id: str, status: TaskStatus, sort: TaskSort) -> list[TaskRow]:
    """Return the user's tasks, newest first or by title."""
    rows = execute(session, LIST[status], {"owner": user_id})
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


def _as_dict(row: Any) -> TaskRow:  # noqa: ANN401  # psycopg2's tuple
    return dict(zip(_fields, row, strict=True))


def _alphabetical(task: TaskRow) -> tuple[str, str, int]:
    """Order by letter, whatever the case; an accent decides only between equal letters.

    In Python, because no collation of PostgreSQL does this on every server: the databases'
    locales differ, and not every server has ICU.
    """
    letters = folded = task["title"].casefold()
    if not folded.isascii():
        decomposed = unicodedata.normalize("NFKD", folded)
        letters = "".join(letter for letter in decomposed if not unicodedata.combining(letter))
    return letters, folded, task["id"]
