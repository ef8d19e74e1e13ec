"""Whole lists: in every order, as the bytes that they always were, of any length."""

import json
from typing import Any

import pytest

from support.postgres import connected
from support.service import User, assert_error


def touched(user: User) -> list[dict[str, Any]]:
    """Make tasks; return them in the order of their last change."""
    tasks = [user.create(title) for title in ("b", "A", "c", "É", "a")]
    for index in (3, 0):
        tasks.append(user.call("PATCH", f"/{tasks.pop(index)['id']}/complete").json())
    return tasks


def test_lists_are_sorted_by_the_last_change(user: User) -> None:
    tasks = touched(user)
    assert user.list(sort="updated") == tasks[::-1]
    assert user.list(sort="updated", order="desc") == tasks[::-1]
    assert user.list(sort="updated", order="asc") == tasks
    completed = [task for task in tasks if task["completed"]]
    assert user.list(sort="updated", status="completed") == completed[::-1]


@pytest.mark.parametrize(
    ("sort", "default"), [("created", "desc"), ("title", "asc"), ("updated", "desc")]
)
@pytest.mark.parametrize("status", ["all", "pending", "completed"])
def test_order_reverses_the_whole_order(
    user: User, database_url: str, sort: str, default: str, status: str
) -> None:
    with connected(database_url) as cursor:
        cursor.execute(
            "INSERT INTO tasks (user_id, title, completed, created_at, updated_at)"
            " SELECT %s, 'Title ' || i %% 4, i %% 2 = 0, timestamp '2026-01-01',"
            " timestamp '2026-01-01' FROM generate_series(1, 20) i",
            [user.id],
        )
    ascending = user.list(sort=sort, order="asc", status=status)
    descending = user.list(sort=sort, order="desc", status=status)
    assert descending == ascending[::-1]
    assert user.list(sort=sort, status=status) == (ascending if default == "asc" else descending)
    assert [task["id"] for task in ascending] == (
        [task["id"] for task in sorted(ascending, key=lambda task: (task["title"], task["id"]))]
        if sort == "title"
        else sorted(task["id"] for task in ascending)
    )


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("?sort=x", "Sort must be created, title or updated"),
        ("?order=x", "Order must be asc or desc"),
        ("?order=", "Order must be asc or desc"),
        ("?order=ASC", "Order must be asc or desc"),
        ("?status=x", "Status must be all, pending or completed"),
    ],
)
def test_a_bad_parameter_is_refused(user: User, query: str, detail: str) -> None:
    assert_error(user.call("GET", query), 400, detail, "VALIDATION_ERROR")


@pytest.mark.parametrize("query", ["", "?sort=title", "?q=x", "?sort=updated&order=asc"])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_list_has_the_bytes_that_it_always_had(user: User, query: str, number: int) -> None:
    for _ in range(number):
        user.create('x é \u2028 " \x01', description="🧑\n")
    response = user.call("GET", query)
    body = response.json()
    assert list(body) == ["tasks", "count"]
    assert body["count"] == number == len(body["tasks"])
    expected = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    assert response.text == expected
    assert response.headers["content-length"] == str(len(expected.encode()))
    assert "link" not in response.headers


def long_list(user: User, database_url: str, number: int) -> None:
    with connected(database_url) as cursor:
        cursor.execute(
            "INSERT INTO tasks (user_id, title, description, completed, created_at, updated_at)"
            " SELECT %s, 'Nº ' || i * 7919 %% 100003, repeat('дом ', 20), i %% 2 = 0, at, at"
            " FROM generate_series(1, %s) i,"
            " LATERAL (SELECT timestamp '2026-01-01' + i * interval '1 second') _ (at)",
            [user.id, number],
        )


@pytest.mark.parametrize("number", [499, 500, 501, 1000, 5003])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_list_of_any_length_is_whole_and_sorted(
    user: User, database_url: str, number: int, order: str
) -> None:
    long_list(user, database_url, number)
    created = user.list(order=order)
    assert len(created) == number
    reverse = order == "desc"
    assert created == sorted(created, key=lambda task: task["created_at"], reverse=reverse)
    by_title = user.list(order=order, sort="title")
    key = lambda task: (task["title"].casefold(), task["id"])  # noqa: E731
    assert by_title == sorted(created, key=key, reverse=reverse)
    assert user.list(order=order, q="ДОМ") == created
    assert user.list(order=order, q="nothing") == []


def test_long_lists_have_an_etag(user: User, database_url: str) -> None:
    long_list(user, database_url, 1500)
    tag = user.call("GET").headers["etag"]
    assert user.call("GET", headers={"If-None-Match": tag}).status_code == 304
    assert user.call("HEAD").headers["etag"] == tag
    user.create()
    assert user.call("GET", headers={"If-None-Match": tag}).status_code == 200
