"""Creations with an Idempotency-Key."""

from typing import Any

import httpx

from support.postgres import connected
from support.service import User

TASK = {"title": "Buy groceries", "description": "Milk"}
REUSED = "Idempotency-Key was used before with another title or description"


def create(user: User, key: str | bytes, body: object = None, **kwargs: Any) -> httpx.Response:  # noqa: ANN401
    headers = {"Idempotency-Key": key, **kwargs.pop("headers", {})}
    return user.call("POST", json=body or TASK, headers=headers, **kwargs)


def is_replayed(response: httpx.Response) -> bool:
    assert response.headers.get_list("idempotency-replayed") in ([], ["true"])
    return "idempotency-replayed" in response.headers


def assert_replays(first: httpx.Response, second: httpx.Response) -> None:
    for response in (first, second):
        assert response.status_code == 201, response.text
        assert response.headers["etag"] == f'"{response.json()["updated_at"]}"'
    assert second.content == first.content
    assert [is_replayed(first), is_replayed(second)] == [False, True]


def age(database_url: str, user: User, hours: float, key: str = "%") -> None:
    """Let the user's keys be older than they are."""
    with connected(database_url) as cursor:
        cursor.execute(
            "UPDATE idempotency_keys SET created_at = created_at - %s * interval '1 hour'"
            " WHERE user_id = %s AND key LIKE %s",
            [hours, user.id, key],
        )


def keys(database_url: str, user: User) -> set[str]:
    with connected(database_url) as cursor:
        cursor.execute("SELECT key FROM idempotency_keys WHERE user_id = %s", [user.id])
        return {key for (key,) in cursor.fetchall()}
