"""What OwnerRoute does in FastAPI's place, beyond what every other test relies on."""

import asyncio
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Cookie, FastAPI, Request

from auth import CurrentUser
from database import DbSession
from endpoint import OwnerRoute
from schemas import TaskCreate, TaskResponse
from support.postgres import connected, new_database
from support.service import User, environment, running


def wants_a_cookie(
    user_id: CurrentUser, session: DbSession, test: Annotated[str, Cookie()]
) -> None: ...


def wants_the_request(user_id: CurrentUser, session: DbSession, request: Request) -> None: ...


def wants_two_bodies(
    user_id: CurrentUser, session: DbSession, one: TaskCreate, two: TaskCreate
) -> None: ...


def wants_no_user(user_id: str, session: DbSession) -> None: ...


def wants_no_session(user_id: CurrentUser) -> None: ...


@pytest.mark.parametrize(
    "endpoint",
    [
        wants_a_cookie,
        wants_the_request,
        wants_two_bodies,
        wants_no_user,
        wants_no_session,
    ],
)
def test_an_endpoint_that_it_cannot_serve_is_refused_at_start(endpoint: object) -> None:
    router = APIRouter(prefix="/{user_id}", route_class=OwnerRoute)
    with pytest.raises(TypeError, match="has a parameter that OwnerRoute does not pass"):
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


@pytest.mark.parametrize(
    ("lines", "status"),
    [(["application/json", "text/plain"], 201), (["text/plain", "application/json"], 400)],
)
def test_the_first_of_several_content_types_counts(
    user: User, lines: list[str], status: int
) -> None:
    headers = [("Authorization", user.headers["Authorization"])]
    headers += [("Content-Type", line) for line in lines]
    response = user.client.post(user.path, content=b'{"title": "a"}', headers=headers)
    assert response.status_code == status


def test_an_endpoint_of_another_route_gets_no_session() -> None:
    app = FastAPI()

    @app.get("/")
    def wants_a_session(session: DbSession) -> None: ...

    async def get() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            await client.get("http://test/")

    with pytest.raises(TypeError, match="route_class=OwnerRoute"):
        asyncio.run(get())


WITH_AN_INTERNAL_COLUMN = """
import uvicorn, sqlalchemy, models, os
models.Task.__table__.append_column(sqlalchemy.Column("internal", sqlalchemy.Text))
uvicorn.run("main:app", port=int(os.environ["PORT"]), log_config=None)
"""


def test_an_internal_column_does_not_leave_the_service() -> None:
    with new_database() as url:
        with running(environment(url)) as service:
            task = service.user("somebody").create()
        with connected(url) as cursor:
            cursor.execute("ALTER TABLE tasks ADD COLUMN internal text DEFAULT 'internal-canary'")
        with running(environment(url), program=("-c", WITH_AN_INTERNAL_COLUMN)) as service:
            user = service.user("somebody")
            path = f"/{task['id']}"
            bodies = [user.create(), *user.list(), user.call("GET", path).json()]
            bodies += [user.call("PUT", path, json={"title": "x"}).json()]
            bodies += [user.call("PATCH", f"{path}/complete").json()]
    assert len(bodies) == 6
    assert {tuple(body) for body in bodies} == {tuple(TaskResponse.model_fields)}
