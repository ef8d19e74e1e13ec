"""The statements on tasks; each names the owner, so that no check can be forgotten or raced."""

import unicodedata
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, func, not_
from sqlmodel import Session, col, delete, insert, select, update

from errors import NotTaskOwner, TaskNotFound
from models import Task, in_utc
from schemas import TaskCreate, TaskSort, TaskStatus, TaskUpdate

INT4_MAX = 2**31 - 1

T = TypeVar("T")


def list_tasks(session: Session, user_id: str, status: TaskStatus, sort: TaskSort) -> list[Task]:
    """Return the user's tasks, newest first or by title."""
    statement = select(Task).where(Task.user_id == user_id)
    if status is not TaskStatus.ALL:
        statement = statement.where(col(Task.completed) == (status is TaskStatus.COMPLETED))
    statement = statement.order_by(col(Task.created_at).desc(), col(Task.id).desc())
    tasks = list(session.exec(statement))
    if sort is TaskSort.TITLE:
        tasks.sort(key=_alphabetical)
    return tasks


def create_task(session: Session, user_id: str, body: TaskCreate) -> Task:
    """Insert a task; the database sets its id, status and timestamps."""
    values = {"user_id": user_id, "title": body.title, "description": body.description}
    return session.scalars(insert(Task).values(values).returning(Task)).one()


def get_task(session: Session, user_id: str, task_id: int) -> Task:
    """Return the user's task.

    Raises:
        TaskNotFound: There is no such task.
        NotTaskOwner: It belongs to another user.

    """
    task = session.exec(select(Task).where(*_owned(user_id, task_id))).one_or_none()
    return _found(session, task, task_id)


def update_task(session: Session, user_id: str, task_id: int, body: TaskUpdate) -> Task:
    """Change what the body holds, and nothing else; raise as `get_task` does."""
    changes = body.changes()
    if not changes:
        return get_task(session, user_id, task_id)
    return _modify(session, user_id, task_id, changes)


def toggle_task(session: Session, user_id: str, task_id: int) -> Task:
    """Negate `completed`; raise as `get_task` does."""
    return _modify(session, user_id, task_id, {"completed": not_(col(Task.completed))})


def delete_task(session: Session, user_id: str, task_id: int) -> None:
    """Delete the user's task for good; raise as `get_task` does."""
    statement = delete(Task).where(*_owned(user_id, task_id)).returning(col(Task.id))
    _found(session, session.scalars(statement).one_or_none(), task_id)


def _modify(session: Session, user_id: str, task_id: int, changes: dict[str, Any]) -> Task:
    # clock_timestamp(): now() is the transaction's start, and a later change could be older.
    values = {**changes, "updated_at": in_utc(func.clock_timestamp())}
    statement = (
        update(Task)
        .where(*_owned(user_id, task_id))
        .values(values)
        .returning(Task)
        .execution_options(synchronize_session=False)
    )
    return _found(session, session.scalars(statement).one_or_none(), task_id)


def _owned(user_id: str, task_id: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    if abs(task_id) > INT4_MAX:
        # The column cannot hold it; PostgreSQL would compare it as numeric with every row, for
        # the index is of integers.
        raise TaskNotFound(task_id)
    return col(Task.id) == task_id, col(Task.user_id) == user_id


def _found(session: Session, found: T | None, task_id: int) -> T:
    """Return what a statement on the user's task found, or else say why it found nothing."""
    if found is not None:
        return found
    if session.exec(select(Task.id).where(Task.id == task_id)).one_or_none() is None:
        raise TaskNotFound(task_id)
    raise NotTaskOwner(f"task {task_id}")


def _alphabetical(task: Task) -> tuple[str, str, int]:
    """Order by letter, whatever the case; an accent decides only between equal letters.

    In Python, because no collation of PostgreSQL's does this on every server: the databases'
    locales differ, and not every server has ICU.
    """
    folded = task.title.casefold()
    decomposed = unicodedata.normalize("NFKD", folded)
    letters = "".join(character for character in decomposed if not unicodedata.combining(character))
    return letters, folded, task.id or 0
