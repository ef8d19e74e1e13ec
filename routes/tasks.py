"""The task endpoints."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Query, Response

import openapi_examples as examples
from auth import CurrentUser
from bulk import complete_all, delete_all
from database import DbSession
from endpoint import OwnerRoute
from errors import Causes, ValidationFailed
from idempotency import new_task_once
from lists import ListQuery, next_link, one_page, whole_list
from openapi import example, headers, operation_id
from queries import DELETE, GET, TOGGLE, TaskRow, new_task, one_task, update_of
from rendering import Parts
from schemas import (
    Cursor,
    IdempotencyKey,
    IfMatch,
    PageSize,
    SearchText,
    TaskCreate,
    TaskId,
    TaskListResponse,
    TaskOrder,
    TaskPageResponse,
    TaskResponse,
    TasksDeletedResponse,
    TaskSort,
    TaskStatus,
    TasksUpdate,
    TasksUpdatedResponse,
    TaskUpdate,
)

router = APIRouter(
    prefix="/api/{user_id}/tasks",
    tags=["tasks"],
    route_class=OwnerRoute,
    generate_unique_id_function=operation_id,
)

BAD_TITLE = Causes(ValidationFailed("Title must be between 1 and 200 characters"))
BAD_STATUS = Causes(ValidationFailed("Status must be all, pending or completed"))
NO_STATUS = Causes(
    ValidationFailed("Status is required"),
    ValidationFailed("Status must be all, pending or completed"),
)
BAD_SORT = Causes(ValidationFailed("Sort must be created, title or updated"))
BAD_ORDER = Causes(ValidationFailed("Order must be asc or desc"))
BAD_COMPLETED = Causes(ValidationFailed("Completed must be true or false"))


@router.get(
    "",
    response_model=TaskPageResponse | TaskListResponse,
    response_description="The tasks, and their number",
    responses={
        200: {"content": {"application/json": {"examples": examples.LISTS}}} | headers("Link")
    },
)
def list_tasks(  # noqa: PLR0913, PLR0917  # what a client may ask for
    session: DbSession,
    user_id: CurrentUser,
    response: Response,
    status: Annotated[TaskStatus, Query(description="Which tasks."), BAD_STATUS] = TaskStatus.ALL,
    sort: Annotated[
        TaskSort,
        Query(
            description="`created`: by creation, newest first. `title`: alphabetical, whatever the"
            " case. `updated`: by the last change, newest first."
        ),
        BAD_SORT,
    ] = TaskSort.CREATED,
    order: Annotated[
        TaskOrder | None,
        Query(description="By default `desc` for `created` and `updated`, `asc` for `title`."),
        BAD_ORDER,
    ] = None,
    q: SearchText = "",
    limit: PageSize = None,
    cursor: Cursor = None,
) -> dict[str, object] | Parts:
    """List your tasks: all of them, or with `limit` page by page.

    A task that exists all the while appears exactly once in the pages, whatever is created or
    deleted meanwhile. One that is changed meanwhile may move in the order of `updated` or `title`.
    """
    query = ListQuery(user_id, status, sort, order, q)
    if limit is None and cursor is None:
        return whole_list(session, query)
    page = one_page(session, query, limit, cursor)
    if limit and page["next_cursor"]:
        response.headers["Link"] = next_link(query, limit, page["next_cursor"])
    return page


@router.post(
    "",
    response_model=TaskResponse,
    status_code=HTTPStatus.CREATED,
    response_description="The task",
    responses={201: example(examples.CREATED_TASK) | headers("Idempotency-Replayed")},
)
def create_task(
    session: DbSession,
    user_id: CurrentUser,
    body: Annotated[TaskCreate, Body(openapi_examples=examples.NEW_TASK_EXAMPLE), BAD_TITLE],
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
    responses={200: example(examples.TASK)},
)
def get_task(session: DbSession, user_id: CurrentUser, task_id: TaskId) -> TaskRow:
    """Get one of your tasks."""
    return one_task(session, GET, user_id, task_id)


@router.put(
    "/{task_id}",
    response_model=TaskResponse,
    response_description="The task as it is now",
    responses={200: example(examples.CHANGED_TASK)},
)
def update_task(
    session: DbSession,
    user_id: CurrentUser,
    task_id: TaskId,
    body: Annotated[TaskUpdate, Body(openapi_examples=examples.CHANGES_EXAMPLE), BAD_TITLE],
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
    responses={200: example(examples.TOGGLED_TASK)},
)
def toggle_task(
    session: DbSession, user_id: CurrentUser, task_id: TaskId, if_match: IfMatch = None
) -> TaskRow:
    """Toggle a task between completed and not completed."""
    return one_task(session, TOGGLE, user_id, task_id, if_match)


@router.patch(
    "",
    response_model=TasksUpdatedResponse,
    response_description="How many tasks were changed",
    responses={200: example({"updated": 2})},
)
def update_tasks(
    session: DbSession,
    user_id: CurrentUser,
    body: Annotated[TasksUpdate, Body(openapi_examples=examples.BULK_EXAMPLE), BAD_COMPLETED],
    status: Annotated[TaskStatus, Query(description="Which tasks."), BAD_STATUS] = TaskStatus.ALL,
) -> dict[str, int]:
    """Complete or reopen all your tasks, or those of a status.

    A task that is so already does not change, and is not counted.
    """
    return {"updated": complete_all(session, user_id, status, completed=body.completed)}


@router.delete(
    "",
    response_model=TasksDeletedResponse,
    response_description="How many tasks were deleted",
    responses={200: example({"deleted": 2})},
)
def delete_tasks(
    session: DbSession,
    user_id: CurrentUser,
    status: Annotated[TaskStatus, Query(description="Which tasks."), NO_STATUS],
) -> dict[str, int]:
    """Delete all your tasks of a status for good; `all` is one too."""
    return {"deleted": delete_all(session, user_id, status)}
