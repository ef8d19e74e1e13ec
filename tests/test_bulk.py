"""Many tasks at once: complete all, reopen all, clear completed."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.service import User, assert_error


def two_of_each(user: User) -> list[dict[str, Any]]:
    for number in range(4):
        task = user.create(str(number))
        if number % 2:
            user.call("PATCH", f"/{task['id']}/complete")
    return user.list()


@pytest.mark.parametrize("completed", [True, False])
@pytest.mark.parametrize(
    ("query", "statuses"),
    [
        ("", {True, False}),
        ("?status=all", {True, False}),
        ("?status=pending", {False}),
        ("?status=completed", {True}),
    ],
)
def test_all_matching_tasks_are_set(
    user: User,
    stranger: User,
    query: str,
    statuses: set[bool],
    *,
    completed: bool,
) -> None:
    before, foreign = two_of_each(user), two_of_each(stranger)
    response = user.call("PATCH", query, json={"completed": completed, "title": "ignored"})
    changed = [task for task in before if task["completed"] in statuses - {completed}]
    assert (response.status_code, response.json()) == (200, {"updated": len(changed)})
    after = user.list()
    for old, new in zip(before, after, strict=True):
        if old in changed:
            assert new == old | {"completed": completed, "updated_at": new["updated_at"]}
            assert new["updated_at"] > old["updated_at"]
        else:
            assert new == old
    assert stranger.list() == foreign
    again = user.call("PATCH", query, json={"completed": completed})
    assert again.json() == {"updated": 0}
    assert user.list() == after


@pytest.mark.parametrize("status", ["all", "pending", "completed"])
def test_all_matching_tasks_are_deleted(user: User, stranger: User, status: str) -> None:
    foreign = two_of_each(stranger)
    two_of_each(user)
    matching = user.list(status=status)
    response = user.call("DELETE", params={"status": status})
    assert (response.status_code, response.json()) == (200, {"deleted": len(matching)})
    assert user.list(status=status) == []
    assert len(user.list()) == 4 - len(matching)
    assert user.call("DELETE", params={"status": status}).json() == {"deleted": 0}
    assert stranger.list() == foreign


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("", "Status is required"),
        ("?Status=all", "Status is required"),
        ("?status=", "Status must be all, pending or completed"),
        ("?status=done", "Status must be all, pending or completed"),
        ("?status=%FF", "Status must not contain characters that cannot be stored"),
    ],
)
def test_nobody_deletes_all_by_leaving_something_out(user: User, query: str, detail: str) -> None:
    tasks = two_of_each(user)
    assert_error(user.call("DELETE", query), 400, detail, "VALIDATION_ERROR")
    assert user.list() == tasks


@pytest.mark.parametrize(
    ("query", "body", "detail"),
    [
        ("", {}, "Completed is required"),
        ("", {"completed": None}, "Completed must be true or false"),
        ("", {"completed": "true"}, "Completed must be true or false"),
        ("", {"completed": 1}, "Completed must be true or false"),
        ("?status=x", {"completed": True}, "Status must be all, pending or completed"),
        (
            "",
            [True],
            "Request body must be a JSON object, sent with Content-Type: application/json",
        ),
    ],
)
def test_a_bad_change_of_all_is_refused(user: User, query: str, body: object, detail: str) -> None:
    tasks = two_of_each(user)
    assert_error(user.call("PATCH", query, json=body), 400, detail, "VALIDATION_ERROR")
    assert user.list() == tasks


def test_other_methods_are_refused_with_those_that_work(user: User) -> None:
    response = user.call("PUT", json={"completed": True})
    assert_error(response, 405, "Method not allowed", "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == "DELETE, GET, HEAD, PATCH, POST"


def test_changes_of_all_at_the_same_time_succeed(user: User) -> None:
    two_of_each(user)
    calls: list[tuple[str, str, Any]] = [
        ("PATCH", "", {"completed": True}),
        ("PATCH", "", {"completed": False}),
        ("DELETE", "?status=completed", None),
        ("POST", "", {"title": "x"}),
    ]
    with ThreadPoolExecutor(8) as threads:
        statuses = set(
            threads.map(lambda call: user.call(*call[:2], json=call[2]).status_code, calls * 10)
        )
    assert statuses == {200, 201}
