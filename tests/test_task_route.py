"""What the tasks' own route does in FastAPI's place, beyond what every other test relies on."""

from typing import Annotated

import pytest
from fastapi import APIRouter, Cookie, Header, Request

from auth import CurrentUser
from database import AppDatabase
from routes.task_route import TaskRoute
from schemas import TaskCreate
from support.service import User


async def wants_a_header(
    user_id: CurrentUser, database: AppDatabase, x_test: Annotated[str, Header()]
) -> None: ...


async def wants_a_cookie(
    user_id: CurrentUser, database: AppDatabase, test: Annotated[str, Cookie()]
) -> None: ...


async def wants_the_request(
    user_id: CurrentUser, database: AppDatabase, request: Request
) -> None: ...


async def wants_two_bodies(
    user_id: CurrentUser, database: AppDatabase, one: TaskCreate, two: TaskCreate
) -> None: ...


async def wants_no_user(user_id: str, database: AppDatabase) -> None: ...


@pytest.mark.parametrize(
    "endpoint", [wants_a_header, wants_a_cookie, wants_the_request, wants_two_bodies, wants_no_user]
)
def test_an_endpoint_that_it_cannot_serve_is_refused_at_start(endpoint: object) -> None:
    router = APIRouter(prefix="/{user_id}", route_class=TaskRoute)
    with pytest.raises(TypeError, match="has a parameter that TaskRoute does not know"):
        router.add_api_route("/test", endpoint)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-8", "Application/JSON", "application/vnd.tasks+json"],
)
def test_every_json_content_type_is_accepted(user: User, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    response = user.call("POST", content=b'{"title": "a"}', headers=headers)
    assert response.status_code == 201


@pytest.mark.parametrize(
    "content_type", ["application/jsonl", "application/xjson", "text/json", "application/a/b+json"]
)
def test_no_other_content_type_is(user: User, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    response = user.call("POST", content=b'{"title": "a"}', headers=headers)
    assert response.status_code == 400
