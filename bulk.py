"""Changes of all tasks of a user that have a status, in one statement each."""

from functools import cache

from sqlalchemy import delete, false, func, not_, select, true, update
from sqlmodel import Session

from lists import matches
from queries import CHANGED_NOW, TASK, TASKS, sql_of
from schemas import TaskStatus
from statements import execute


@cache
def _complete(status: TaskStatus, *, completed: bool) -> str:
    changed = (
        update(TASKS)
        .where(matches(status), not_(TASK.completed) if completed else TASK.completed)
        .values(completed=true() if completed else false(), updated_at=CHANGED_NOW)
        .returning(TASK.id)
        .cte("changed")
    )
    return sql_of(select(func.count()).select_from(changed))


@cache
def _delete(status: TaskStatus) -> str:
    deleted = delete(TASKS).where(matches(status)).returning(TASK.id).cte("deleted")
    return sql_of(select(func.count()).select_from(deleted))


def complete_all(session: Session, user_id: str, status: TaskStatus, *, completed: bool) -> int:
    """Set `completed` of all tasks of a status; return how many were not so."""
    [[number]] = execute(session, _complete(status, completed=completed), {"owner": user_id})
    return int(number)


def delete_all(session: Session, user_id: str, status: TaskStatus) -> int:
    """Delete all tasks of a status; return how many they were."""
    [[number]] = execute(session, _delete(status), {"owner": user_id})
    return int(number)
