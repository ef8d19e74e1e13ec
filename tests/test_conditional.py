"""Conditional requests: ETag, 304, and 412."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import httpx
import pytest

from support.postgres import connected
from support.service import ORIGIN, User, assert_error, assert_revalidated

CHANGED = "The task has changed in the meantime"
MALFORMED = "If-Match must be * or a list of entity tags in quotes"
ABSENT_ID = 2**31 - 1
OTHER = '"2020-01-01T00:00:00Z"'


@dataclass(frozen=True)
class Change:
    """A call that changes one task."""

    method: str
    suffix: str = ""
    body: object = None

    def __call__(self, user: User, task_id: object, **headers: str | bytes) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        path = f"/{task_id}{self.suffix}"
        return user.call(self.method, path, json=self.body, headers=sent)


RENAME = Change("PUT", "", {"title": "Changed"})
NOTHING = Change("PUT", "", {})
TOGGLE = Change("PATCH", "/complete")
DELETE = Change("DELETE")
CHANGES = [RENAME, NOTHING, TOGGLE, DELETE]
MALFORMED_TAGS = [
    *("", ",", "x", "2026-01-01T00:00:00Z", '"x', 'x"', "'x'", "W/", 'w/"x"', 'W/ "x"', "W/x"),
    *("**", '*, "x"', '"x", *', "*,", '"x" "y"', '"x""y"', '"x"; "y"', '"x y"', '"x"y', 'y"x"'),
    *('"x\ty"', '"x"W/"y"', '"x", y'),
]


def tag(task: dict[str, Any]) -> str:
    return f'"{task["updated_at"]}"'


def lines(user: User, name: str, *values: str) -> list[tuple[str, str]]:
    """Headers of which one has several lines."""
    return [*user.headers.items(), *((name, value) for value in values)]


# --- ETag ---


def test_a_task_has_its_version_as_etag_wherever_it_is_the_body(user: User) -> None:
    created = user.call("POST", json={"title": "x"})
    path = f"/{created.json()['id']}"
    responses = [
        created,
        user.call("GET", path),
        user.call("PUT", path, json={}),
        user.call("PUT", path, json={"title": "y"}),
        user.call("PATCH", f"{path}/complete"),
    ]
    for response in responses:
        assert response.headers.get_list("etag") == [tag(response.json())]
    assert user.call("HEAD", path).headers["etag"] == tag(user.list()[0])
    assert len({response.headers["etag"] for response in responses}) == 3
    assert "etag" not in user.call("DELETE", path).headers


@pytest.mark.parametrize("microseconds", ["", ".000001", ".1", ".120000", ".999999"])
def test_an_etag_is_the_bodys_string_to_the_last_digit(
    user: User, database_url: str, microseconds: str
) -> None:
    task = user.create()
    with connected(database_url) as cursor:
        cursor.execute(
            "UPDATE tasks SET updated_at = %s WHERE id = %s",
            [f"2026-01-02 03:04:05{microseconds}", task["id"]],
        )
    (listed,) = user.list()
    read = user.call("GET", f"/{task['id']}")
    assert read.headers["etag"] == tag(read.json()) == tag(listed)
    headers = {"If-Match": tag(listed)}
    assert user.call("PATCH", f"/{task['id']}/complete", headers=headers).status_code == 200


def test_a_version_is_new_with_every_change_even_if_the_clock_is_set_back(
    user: User, database_url: str
) -> None:
    task_id = user.create()["id"]
    with connected(database_url) as cursor:
        cursor.execute("UPDATE tasks SET updated_at = '2999-01-01' WHERE user_id = %s", [user.id])
    versions = [change(user, task_id).json()["updated_at"] for change in (RENAME, TOGGLE)]
    assert versions == ["2999-01-01T00:00:00.000001Z", "2999-01-01T00:00:00.000002Z"]


def test_a_change_after_another_transactions_is_the_later_version(
    user: User, database_url: str
) -> None:
    task = user.create()
    with connected(database_url) as cursor, ThreadPoolExecutor(1) as thread:
        cursor.execute("BEGIN; SELECT FROM tasks WHERE id = %s FOR UPDATE", [task["id"]])
        waiting = thread.submit(user.call, "PATCH", f"/{task['id']}/complete")
        wait_until_it_waits(cursor)
        cursor.execute(
            "UPDATE tasks SET updated_at = timezone('utc', clock_timestamp()) WHERE id = %s"
            " RETURNING updated_at; ",
            [task["id"]],
        )
        (first,) = cursor.fetchone()
        cursor.execute("COMMIT")
        second = datetime.fromisoformat(waiting.result().json()["updated_at"])
    assert second.replace(tzinfo=None) > first


def wait_until_it_waits(cursor: Any) -> None:  # noqa: ANN401
    cursor.execute("SELECT 0")
    while cursor.fetchone() == (0,):
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() ="
            " ANY (pg_blocking_pids(pid))"
        )


def test_a_lists_etag_changes_with_its_body_alone(user: User) -> None:
    tasks = [user.create(), user.create()]
    first = user.call("GET")
    assert first.headers["etag"] == user.call("GET").headers["etag"]
    others = [user.call("GET", params={"status": each}) for each in ("pending", "completed")]
    assert [each.headers["etag"] == first.headers["etag"] for each in others] == [True, False]
    changes: list[Callable[[], object]] = [
        lambda: user.call("PATCH", f"/{tasks[0]['id']}/complete"),
        lambda: user.call("DELETE", f"/{tasks[0]['id']}"),
        user.create,
    ]
    seen = {first.headers["etag"]}
    for change in changes:
        change()
        seen.add(user.call("GET").headers["etag"])
    assert len(seen) == 4


# --- If-None-Match ---


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("is_list", [True, False])
@pytest.mark.parametrize(
    "sent",
    ["{}", "W/{}", "*", '"x", {}', '{},"x"', ', "a,b" , W/{} ,', '"", {}', '"\xe9", {}'],
)
def test_what_the_client_has_is_not_sent_again(
    user: User,
    method: str,
    is_list: bool,  # noqa: FBT001
    sent: str,
) -> None:
    path = f"/{user.create()['id']}"
    path = "" if is_list else path
    read = user.call("GET", path)
    value = sent.format(read.headers["etag"]).encode("latin-1")
    headers = {"Origin": ORIGIN, "If-None-Match": value}
    response = user.call(method, path, headers=headers)
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == read.headers["etag"]
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert_revalidated(response)


def test_lines_of_if_none_match_are_one_list(user: User) -> None:
    task = user.create()
    headers = lines(user, "If-None-Match", '"x"', tag(task))
    response = user.client.get(f"{user.path}/{task['id']}", headers=headers)
    assert response.status_code == 304


@pytest.mark.parametrize("is_list", [True, False])
@pytest.mark.parametrize("sent", [*MALFORMED_TAGS, OTHER, '"*"', "{}x", "x, {}", '{} "x"'])
def test_any_other_is(user: User, is_list: bool, sent: str) -> None:  # noqa: FBT001
    task = user.create()
    path = "" if is_list else f"/{task['id']}"
    read = user.call("GET", path)
    headers = {"If-None-Match": sent.format(read.headers["etag"])}
    response = user.call("GET", path, headers=headers)
    assert (response.status_code, response.content) == (200, read.content)


def test_an_error_comes_before_if_none_match(user: User, stranger: User) -> None:
    headers = {"If-None-Match": "*"}
    foreign = f"/{stranger.create()['id']}"
    for path, status in ((f"/{ABSENT_ID}", 404), (foreign, 403), ("/x", 400), ("?status=x", 400)):
        assert user.call("GET", path, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("method", "body", "status"), [("POST", {"title": "x"}, 201), ("PUT", {"title": "x"}, 200)]
)
def test_if_none_match_is_for_reading(user: User, method: str, body: object, status: int) -> None:
    path = f"/{user.create()['id']}" if method == "PUT" else ""
    response = user.call(method, path, json=body, headers={"If-None-Match": "*"})
    assert response.status_code == status


# --- If-Match ---


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("sent", ["{}", "*", '"x", {}', '{},"x"', ',W/"x" , {} ,', '"a,b", {}'])
def test_the_version_that_the_client_has_is_changed(user: User, change: Change, sent: str) -> None:
    task = user.create()
    response = change(user, task["id"], if_match=sent.format(tag(task)))
    assert response.status_code == (204 if change is DELETE else 200)
    assert (user.list() == [task]) == (change is NOTHING)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    "sent",
    [
        *(OTHER, '"x"', '""', 'W/"{}Z"', 'W/"x"', '"*"', '"x", W/"{}Z"', '"\xe9"'),
        # Other spellings of its moment: the comparison is of characters.
        *('"{}0Z"', '"{}+00:00"', '"{}"', '"{}z"', '"{:.10}"', '"+{}Z"'),
        *(
            '"9999999999999999999"',
            '"infinity"',
            '"2026-02-30T00:00:00Z"',
            '"0001-01-01T00:00:00Z"',
        ),
    ],
)
def test_no_other_version_is(user: User, change: Change, sent: str) -> None:
    task = user.create()
    value = sent.format(task["updated_at"].removesuffix("Z")).encode("latin-1")
    response = change(user, task["id"], if_match=value, origin=ORIGIN)
    assert_error(response, 412, CHANGED, "PRECONDITION_FAILED")
    assert response.headers["etag"] == tag(task)
    assert "ETag" in response.headers["access-control-expose-headers"].split(", ")
    assert user.list() == [task]


@pytest.mark.parametrize("change", CHANGES)
def test_lines_of_if_match_are_one_list(user: User, change: Change) -> None:
    task = user.create()
    url = f"{user.path}/{task['id']}{change.suffix}"
    for values, statuses in (
        (['"x"', OTHER], {412}),
        (["*", OTHER], {400}),
        (['"x"', tag(task)], {200, 204}),
    ):
        headers = lines(user, "If-Match", *values)
        response = user.client.request(change.method, url, json=change.body, headers=headers)
        assert response.status_code in statuses


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("sent", MALFORMED_TAGS)
def test_a_malformed_if_match_is_refused(
    user: User, stranger: User, change: Change, sent: str
) -> None:
    task, foreign = user.create(), stranger.create()
    for task_id in (task["id"], foreign["id"], ABSENT_ID, 2**40):
        response = change(user, task_id, if_match=sent)
        assert_error(response, 400, MALFORMED, "VALIDATION_ERROR")
    assert change(user, task["id"], if_match=sent, Authorization="x").status_code == 401
    token = user.headers["Authorization"]
    assert change(stranger, foreign["id"], if_match=sent, Authorization=token).status_code == 403
    assert (user.list(), stranger.list()) == ([task], [foreign])


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("sent", ["*", OTHER, '"x"'])
def test_a_missing_or_foreign_task_comes_before_a_miss(
    user: User, stranger: User, change: Change, sent: str
) -> None:
    foreign = stranger.create()
    for task_id, status in ((ABSENT_ID, 404), (2**40, 404), (foreign["id"], 403)):
        response = change(user, task_id, if_match=sent)
        assert response.status_code == status
        assert "etag" not in response.headers
    assert stranger.list() == [foreign]


def test_a_bad_body_comes_before_a_miss(user: User) -> None:
    bad = Change("PUT", "", {"title": ""})
    assert bad(user, user.create()["id"], if_match=OTHER).status_code == 400


@pytest.mark.parametrize("sent", [OTHER, "x"])
def test_if_match_is_ignored_where_no_one_task_is_changed(user: User, sent: str) -> None:
    headers = {"If-Match": sent}
    path = f"/{user.create()['id']}"
    assert user.call("GET", headers=headers).status_code == 200
    assert user.call("GET", path, headers=headers).status_code == 200
    assert user.call("HEAD", path, headers=headers).status_code == 200
    assert user.call("POST", json={"title": "x"}, headers=headers).status_code == 201


@pytest.mark.parametrize("change", [RENAME, TOGGLE, DELETE])
def test_of_20_who_change_the_same_version_one_wins(user: User, change: Change) -> None:
    for _ in range(3):
        task = user.create()
        with ThreadPoolExecutor(20) as threads:
            send = partial(change, user, task["id"], if_match=tag(task))
            calls = [threads.submit(send) for _ in range(20)]
        responses = [call.result() for call in calls]
        expected = {204: 1, 404: 19} if change is DELETE else {200: 1, 412: 19}
        assert Counter(response.status_code for response in responses) == expected
        if change is not DELETE:
            current = user.call("GET", f"/{task['id']}").headers["etag"]
            assert {response.headers["etag"] for response in responses} == {current}
