"""The task endpoints."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Query, Response

import openapi
from auth import CurrentUser
from database import DbSession
from endpoint import OwnerRoute
from errors import Causes, ValidationFailed
from idempotency import new_task_once
from openapi import example
from queries import DELETE, GET, TOGGLE, TaskRow, all_tasks, new_task, one_task, update_of
from schemas import (
    IdempotencyKey,
    IfMatch,
    TaskCreate,
    TaskId,
    TaskListResponse,
    TaskResponse,
    TaskSort,
    TaskStatus,
    TaskUpdate,
)

router = APIRouter(
    prefix="/api/{user_id}/tasks",
    tags=["tasks"],
    route_class=OwnerRoute,
    generate_unique_id_function=openapi.operation_id,
)

BAD_TITLE = Causes(ValidationFailed("Title must be between 1 and 200 characters"))
BAD_STATUS = Causes(ValidationFailed("Status must be all, pending or completed"))
BAD_SORT = Causes(ValidationFailed("Sort must be created or title"))


@router.get(
    "",
    response_model=TaskListResponse,
    response_description="The tasks, and their number",
    responses={200: example(openapi.TASK_LIST)},
)
def list_tasks(
    session: DbSession,
    user_id: CurrentUser,
    status: Annotated[TaskStatus, Query(description="Which tasks."), BAD_STATUS] = TaskStatus.ALL,
    sort: Annotated[
        TaskSort,
        Query(description="`created`: newest first. `title`: alphabetical, whatever the case."),
        BAD_SORT,
    ] = TaskSort.CREATED,
) -> dict[str, object]:
    """List your tasks, all of them unless you filter by status."""
    tasks = all_tasks(session, user_id, status, sort)
    return {"tasks": tasks, "count": len(tasks)}


@router.post(
    "",
    response_model=TaskResponse,
    status_code=HTTPStatus.CREATED,
    response_description="The task",
    responses={201: {**example(openapi.CREATED_TASK), "headers": openapi.REPLAYED}},
)
def create_task(
    session: DbSession,
    user_id: CurrentUser,
    body: Annotated[TaskCreate, Body(openapi_examples=openapi.NEW_TASK_EXAMPLE), BAD_TITLE],
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> TaskRow:
    """Create a task. It starts as not completed.

    With an `Idempotency-Key`, you may send it again until you get a response.
    """
    new = (body.title, body.description)
    if idempotency_key is None:
        return new_task(session, user_id, *new)
    task, is_replayed = new_task_once(session, user_id, idempotency_key, *new)
    if is_replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return task


@router.get(
    "/{task_id}",
    response_model=TaskResponse,
    response_description="The task",
    responses={200: example(openapi.TASK)},
)
def get_task(session: DbSession, user_id: CurrentUser, task_id: TaskId) -> TaskRow:
    """Get one of your tasks."""
    return one_task(session, GET, user_id, task_id)


@router.put(
    "/{task_id}",
    response_model=TaskResponse,
    response_description="The task as it is now",
    responses={200: example(openapi.CHANGED_TASK)},
)
def update_task(
    session: DbSession,
    user_id: CurrentUser,
    task_id: TaskId,
    body: Annotated[TaskUpdate, Body(openapi_examples=openapi.CHANGES_EXAMPLE), BAD_TITLE],
    if_match: IfMatch = None,
) -> TaskRow:
    """Change the fields that you send; the others stay.

    `null` clears the description. `{}` changes nothing, `updated_at` included.
    """
    changes = body.changes()
    return one_task(session, update_of(*changes), user_id, task_id, if_match, **changes)


@router.delete(
    "/{task_id}",
    status_code=HTTPStatus.NO_CONTENT,
    response_description="The task is deleted",
)
def delete_task(
    session: DbSession, user_id: CurrentUser, task_id: TaskId, if_match: IfMatch = None
) -> None:
    """Delete one of your tasks for good."""
    one_task(session, DELETE, user_id, task_id, if_match)


@router.patch(
    "/{task_id}/complete",
    response_model=TaskResponse,
    response_description="The task as it is now",
    responses={200: example(openapi.TOGGLED_TASK)},
)
def toggle_task(
    session: DbSession, user_id: CurrentUser, task_id: TaskId, if_match: IfMatch = None
) -> TaskRow:
    """Toggle a task between completed and not completed."""
    return one_task(session, TOGGLE, user_id, task_id, if_match)
