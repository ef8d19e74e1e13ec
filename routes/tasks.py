"""The task endpoints."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message

import openapi
import queries
from auth import CurrentUser, get_current_user
from database import AppDatabase
from errors import PayloadTooLarge
from models import Task
from schemas import (
    TaskCreate,
    TaskId,
    TaskListResponse,
    TaskResponse,
    TaskSort,
    TaskStatus,
    TaskUpdate,
)

MAX_BODY_SIZE = 64 * 1024


class TaskRoute(APIRoute):
    """A route that knows its user before it reads the body, of which it takes 64 KiB at most.

    FastAPI by itself reads and decodes the body first, whoever sent it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Put both checks in front of FastAPI's own handler."""
        handle = super().get_route_handler()

        async def check_and_handle(request: Request) -> Response:
            await get_current_user(request, request.path_params["user_id"])
            body = await _read_limited(request)

            async def receive() -> Message:
                return {"type": "http.request", "body": body, "more_body": False}

            return await handle(Request(request.scope, receive))

        return check_and_handle


async def _read_limited(request: Request) -> bytes:
    if int(request.headers.get("content-length", 0)) > MAX_BODY_SIZE:
        raise PayloadTooLarge
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_SIZE:
            raise PayloadTooLarge
    return bytes(body)


router = APIRouter(prefix="/api/{user_id}/tasks", tags=["tasks"], route_class=TaskRoute)


@router.get(
    "",
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
) -> TaskListResponse:
    """List your tasks, all of them unless you filter by status."""
    tasks = await database.run(queries.list_tasks, user_id, status, sort)
    return TaskListResponse.of(tasks)


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
) -> Task:
    """Create a task. It starts as not completed."""
    return await database.run(queries.create_task, user_id, body)


@router.get(
    "/{task_id}",
    response_model=TaskResponse,
    response_description="The task",
    responses=openapi.answers(200, openapi.TASK, *openapi.ONE_TASK),
)
async def get_task(user_id: CurrentUser, database: AppDatabase, task_id: TaskId) -> Task:
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
) -> Task:
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
async def toggle_task(user_id: CurrentUser, database: AppDatabase, task_id: TaskId) -> Task:
    """Toggle a task between completed and not completed."""
    return await database.run(queries.toggle_task, user_id, task_id)
