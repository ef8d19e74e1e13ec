"""The task endpoints."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Query

import openapi
import queries
from auth import CurrentUser
from database import AppDatabase
from queries import TaskRow
from routes.task_route import TaskRoute
from schemas import (
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
    route_class=TaskRoute,
    generate_unique_id_function=openapi.operation_id,
)


@router.get(
    "",
    response_model=TaskListResponse,
    response_description="The tasks, and their number",
    responses=openapi.answers(200, openapi.TASK_LIST, *openapi.BAD_QUERY),
)
async def list_tasks(
    user_id: CurrentUser,
    database: AppDatabase,
    status: Annotated[TaskStatus, Query(description="Which tasks.")] = TaskStatus.ALL,
    sort: Annotated[
        TaskSort,
        Query(description="`created`: newest first. `title`: alphabetical, whatever the case."),
    ] = TaskSort.CREATED,
) -> dict[str, object]:
    """List your tasks, all of them unless you filter by status."""
    tasks = await database.run(queries.list_tasks, user_id, status, sort)
    return {"tasks": tasks, "count": len(tasks)}


@router.post(
    "",
    response_model=TaskResponse,
    status_code=HTTPStatus.CREATED,
    response_description="The task",
    responses=openapi.answers(201, openapi.CREATED_TASK, *openapi.BAD_BODY),
)
async def create_task(
    user_id: CurrentUser,
    database: AppDatabase,
    body: Annotated[TaskCreate, Body(openapi_examples=openapi.NEW_TASK_EXAMPLE)],
) -> TaskRow:
    """Create a task. It starts as not completed."""
    return await database.run(queries.create_task, user_id, body)


@router.get(
    "/{task_id}",
    response_model=TaskResponse,
    response_description="The task",
    responses=openapi.answers(200, openapi.TASK, *openapi.ONE_TASK),
)
async def get_task(user_id: CurrentUser, database: AppDatabase, task_id: TaskId) -> TaskRow:
    """Get one of your tasks."""
    return await database.run(queries.get_task, user_id, task_id)


@router.put(
    "/{task_id}",
    response_model=TaskResponse,
    response_description="The task as it is now",
    responses=openapi.answers(200, openapi.CHANGED_TASK, *openapi.BAD_BODY, *openapi.ONE_TASK),
)
async def update_task(
    user_id: CurrentUser,
    database: AppDatabase,
    task_id: TaskId,
    body: Annotated[TaskUpdate, Body(openapi_examples=openapi.CHANGES_EXAMPLE)],
) -> TaskRow:
    """Change the fields that you send; the others stay.

    `null` clears the description. `{}` changes nothing, `updated_at` included.
    """
    return await database.run(queries.update_task, user_id, task_id, body)


@router.delete(
    "/{task_id}",
    status_code=HTTPStatus.NO_CONTENT,
    response_description="The task is deleted",
    responses=openapi.answers(204, None, *openapi.ONE_TASK),
)
async def delete_task(user_id: CurrentUser, database: AppDatabase, task_id: TaskId) -> None:
    """Delete one of your tasks for good."""
    await database.run(queries.delete_task, user_id, task_id)


@router.patch(
    "/{task_id}/complete",
    response_model=TaskResponse,
    response_description="The task as it is now",
    responses=openapi.answers(200, openapi.TOGGLED_TASK, *openapi.ONE_TASK),
)
async def toggle_task(user_id: CurrentUser, database: AppDatabase, task_id: TaskId) -> TaskRow:
    """Toggle a task between completed and not completed."""
    return await database.run(queries.toggle_task, user_id, task_id)
