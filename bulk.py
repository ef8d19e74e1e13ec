"""Changes of all tasks of a user that have a status, in one statement each."""

from functools import cache

from sqlalchemy import delete, false, func, not_, select, true, update
from sqlmodel import Session

from lists import matches
from pool import execute
from queries import CHANGED_NOW, _sql, _task, _tasks
from schemas import TaskStatus


@cache
def _complete(status: TaskStatus, *, completed: bool) -> str:
    changed = (
        update(_tasks)
        .where(matches(status), not_(_task.completed) if completed else _task.completed)
        .values(completed=true() if completed else false(), updated_at=CHANGED_NOW)
        .returning(_task.id)
        .cte("changed")
    )
    return _sql(select(func.count()).select_from(changed))


@cache
def _delete(status: TaskStatus) -> str:
    deleted = delete(_tasks).where(matches(status)).returning(_task.id).cte("deleted")
    return _sql(select(func.count()).select_from(deleted))


def complete_all(session: Session, user_id: str, status: TaskStatus, *, completed: bool) -> int:
    """Set `completed` of all tasks of a status; return how many were not so."""
    [[number]] = execute(session, _complete(status, completed=completed), {"owner": user_id})
    return int(number)


def delete_all(session: Session, user_id: str, status: TaskStatus) -> int:
    """Delete all tasks of a status; return how many they were."""
    [[number]] = execute(session, _delete(status), {"owner": user_id})
    return int(number)
