"""Pages: every task once, whatever happens meanwhile, and cursors that fit their list alone."""

import base64
import random
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from support.postgres import connected
from support.service import Service, User, assert_error, environment, running

BAD_CURSOR = "Cursor must be the next_cursor of a page of the same list"
BAD_LIMIT = "Limit must be a whole number from 1 to 1000"
LINK = re.compile(r'<(/api/[!-;=?-~]+)>; rel="next"', re.ASCII)
LISTS = [
    {"status": status, "sort": sort, "order": order, "q": q}
    for status in ("all", "pending", "completed")
    for sort in ("created", "title", "updated")
    for order in ("asc", "desc")
    for q in ("", "ä")
]


def page(user: User, **query: object) -> dict[str, Any]:
    response = user.call("GET", params=query)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    assert list(body) == ["tasks", "count", "total", "next_cursor"]
    assert body["count"] == len(body["tasks"])
    return body


def pages(user: User, **query: object) -> Iterator[dict[str, Any]]:
    """Follow the links, which work as they stand."""
    response = user.call("GET", params=query)
    while True:
        assert response.status_code == 200, response.text
        body = response.json()
        yield body
        link = response.headers.get("link")
        assert (link is None) == (body["next_cursor"] is None)
        if link is None:
            return
        match = LINK.fullmatch(link)
        assert match, link
        response = user.client.get(match[1], headers=user.headers)


def fill(user: User, database_url: str, number: int = 40) -> None:
    """Make tasks, many of them with the same timestamps and titles."""
    titles = ("Äpfel", "äpfel", "apfel", "Birne", "zebra Ä")
    with connected(database_url) as cursor:
        cursor.execute(
            "INSERT INTO tasks (user_id, title, completed, created_at, updated_at)"
            " SELECT %s, (%s::text[])[1 + i %% 5], i %% 3 = 0,"
            " timestamp '2026-01-01' + i / 7 * interval '1 microsecond',"
            " timestamp '2026-01-02' - i / 9 * interval '1 microsecond'"
            " FROM generate_series(1, %s) i",
            [user.id, list(titles), number],
        )


@pytest.mark.parametrize("query", LISTS)
def test_the_pages_are_the_list(user: User, database_url: str, query: dict[str, str]) -> None:
    fill(user, database_url)
    whole = user.list(**query)
    assert whole
    for limit in (1, 3, len(whole) - 1, len(whole), 1000):
        found = list(pages(user, limit=limit, **query))
        assert [task for each in found for task in each["tasks"]] == whole
        assert {each["total"] for each in found} == {len(whole)}
        assert [each["count"] for each in found[:-1]] == [limit] * (len(found) - 1)
        assert found[-1]["count"] > 0


def test_the_limit_may_change_between_pages(user: User, database_url: str) -> None:
    fill(user, database_url)
    first = page(user, limit=3)
    second = page(user, limit=20, cursor=first["next_cursor"])
    third = page(user, limit=1000, cursor=second["next_cursor"])
    assert first["tasks"] + second["tasks"] + third["tasks"] == user.list()


def test_an_empty_page_has_its_total(user: User) -> None:
    assert page(user, limit=5) == {"tasks": [], "count": 0, "total": 0, "next_cursor": None}
    tasks = [user.create(str(number)) for number in range(3)]
    for sort in ("created", "updated", "title"):
        cursor = page(user, limit=2, sort=sort, order="asc")["next_cursor"]
        user.call("DELETE", f"/{tasks[2]['id']}")
        empty = page(user, limit=2, sort=sort, order="asc", cursor=cursor)
        assert empty == {"tasks": [], "count": 0, "total": 2, "next_cursor": None}
        tasks[2] = user.create("2")


@pytest.mark.parametrize("sort", ["created", "updated", "title"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_task_that_stays_appears_once(
    user: User, database_url: str, sort: str, order: str
) -> None:
    fill(user, database_url, 60)
    choose = random.Random(f"{sort} {order}")
    stays = {task["id"] for task in user.list()}
    seen: list[int] = []
    query: dict[str, object] = {"sort": sort, "order": order, "limit": 4}
    cursor = None
    while True:
        body = page(user, **query, **({"cursor": cursor} if cursor else {}))
        seen += [task["id"] for task in body["tasks"]]
        cursor = body["next_cursor"]
        if not cursor:
            break
        # Whatever else exists may change: a task of a seen page, one that is to come, a new one.
        for _ in range(3):
            task_id = choose.choice(sorted(stays))
            change = choose.choice(["delete", "create", "toggle"])
            if change == "delete":
                assert user.call("DELETE", f"/{task_id}").status_code == 204
                stays.remove(task_id)
            elif change == "create":
                user.create(choose.choice(["aaa", "Äpfel", "zzz"]))
            elif sort != "updated":
                user.call("PATCH", f"/{task_id}/complete")
    assert len(seen) == len(set(seen))
    assert stays <= set(seen)


@pytest.mark.parametrize(
    "limit",
    ["0", "00", "1001", "10000", "-1", "+1", "1.0", "1e2", " 1", "1 ", "1_0", "0x1", "", "x",
     "null", "٣", "\uff11", "²", "9" * 5000, "\0"],
)  # fmt: skip
def test_a_bad_limit_is_refused(user: User, limit: str) -> None:
    assert_error(user.call("GET", params={"limit": limit}), 400, BAD_LIMIT, "VALIDATION_ERROR")


@pytest.mark.parametrize("limit", ["1", "1000", "05"])
def test_a_good_limit_is_taken(user: User, limit: str) -> None:
    assert user.call("GET", params={"limit": limit}).status_code == 200


def test_a_cursor_needs_a_limit(user: User, database_url: str) -> None:
    fill(user, database_url)
    cursor = page(user, limit=1)["next_cursor"]
    response = user.call("GET", params={"cursor": cursor})
    assert_error(response, 400, "Cursor needs a limit", "VALIDATION_ERROR")


def refused(user: User, cursor: str, **query: object) -> None:
    response = user.call("GET", params={"limit": 2, **query, "cursor": cursor})
    assert_error(response, 400, BAD_CURSOR, "VALIDATION_ERROR")


def test_a_cursor_works_only_with_its_query(user: User, stranger: User, database_url: str) -> None:
    fill(user, database_url)
    fill(stranger, database_url)
    for query in LISTS:
        cursor = page(user, limit=1, **query)["next_cursor"]
        refused(stranger, cursor, **query)
        for other in LISTS:
            if other != query:
                refused(user, cursor, **other)
        refused(user, cursor, **{**query, "q": "Ä"})


def test_defaults_may_be_named(user: User, database_url: str) -> None:
    fill(user, database_url)
    cursor = page(user, limit=1)["next_cursor"]
    named = {"status": "all", "sort": "created", "order": "desc", "q": ""}
    assert page(user, limit=1, cursor=cursor, **named) == page(user, limit=1, cursor=cursor)


def test_every_mutation_of_a_cursor_is_refused(user: User) -> None:
    for title in ("one", "two"):
        user.create(title)
    for sort in ("title", "created"):
        cursor = page(user, limit=1, sort=sort)["next_cursor"]
        for index in range(len(cursor)):
            for other in ("A", "B", "_", "=", "é", ""):
                mutated = cursor[:index] + other + cursor[index + 1 :]
                if mutated != cursor:
                    refused(user, mutated, sort=sort)
        for mutated in (
            "",
            cursor + "=",
            cursor + "A",
            f" {cursor}",
            cursor * 2,
            "x",
            "null",
            "\0",
        ):
            refused(user, mutated, sort=sort)


def test_a_cursor_made_up_with_the_right_digest_does_no_harm(user: User) -> None:
    from cursors import _digest  # noqa: PLC0415

    for sort, order in (("created", "desc"), ("title", "asc"), ("updated", "desc")):
        query = [user.id, "all", sort, order, ""]
        for payload in (
            *(b"", b"{}", b"[]", b"[1]", b"[1,2,3]", b'[1,"x",null]', b'[1,"x",1,2]', b"\xff"),
            *(b'[1,"x",true]', b'[2,"2026-01-01",1]', b'[1,"2026-01-01",2147483648]', b"NaN"),
            *(b'[1,"2026-01-01T00:00:00+99:00",1]', b'[1,"0001-01-01T00:00:00+14:00",1]'),
            *(b'[1,"9999-12-31T23:59:59.999999",-1]', b'[1,"2026-01-01T00:00:00Z",1]'),
            *(b'[1,"\\u0000",1]', b"[" * 2000, b'[1,"' + b"x" * 9000 + b'",1]'),
        ):
            raw = _digest(payload, query) + payload
            cursor = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
            response = user.call("GET", params={"limit": 1, "sort": sort, "cursor": cursor})
            assert response.status_code in {200, 400}, payload


@pytest.mark.parametrize("title", ["\U0001f9d1" * 200, "\x01" * 199 + "x", '"\\' * 100, "ﷺ" * 200])
def test_a_cursor_is_short_for_any_title(user: User, title: str) -> None:
    for _ in range(2):
        user.create(title)
    first = page(user, limit=1, sort="title")
    assert len(first["next_cursor"]) < 4000
    assert page(user, limit=1, sort="title", cursor=first["next_cursor"])["count"] == 1


@pytest.mark.parametrize("user_id", ["a/b?c#d", "Ünïcødé 🧑", '<">;,', "%2F%", "x" * 255])
@pytest.mark.parametrize("q", ["&=?#/+ %", '<">; rel="prev"', "é🧑", ""])
def test_a_link_works_whatever_it_holds(
    service: Service, database_url: str, user_id: str, q: str
) -> None:
    user = service.user(user_id)
    for number in range(3):
        user.create(f"{number}{q}")
    found = list(pages(user, limit=1, q=f"{q}"))
    assert len(found) == found[0]["total"] >= 3
    with connected(database_url) as cursor:
        cursor.execute("DELETE FROM tasks WHERE user_id = %s", [user_id])


def test_cursors_work_with_other_processes_and_are_never_logged(database_url: str) -> None:
    canary = "canary-in-a-title"
    with running(environment(database_url)) as first:
        user = first.user()
        for number in range(3):
            user.create(f"{canary}{number}")
        cursor = page(user, limit=1, sort="title")["next_cursor"]
    with running(environment(database_url)) as second:
        again = User(user.id, second.client)
        assert (
            page(again, limit=1, sort="title", cursor=cursor)["tasks"][0]["title"] == f"{canary}1"
        )
        refused(again, cursor[:-1], sort="title")
        output = second.output()
    for secret in (cursor, cursor[:20], canary):
        assert secret not in output


def test_head_is_like_get(user: User, database_url: str) -> None:
    fill(user, database_url)
    get, head = (user.call(method, params={"limit": 2}) for method in ("GET", "HEAD"))
    for name in ("link", "etag", "content-length"):
        assert get.headers[name] == head.headers[name]
    assert (head.status_code, head.content) == (200, b"")


def test_a_page_has_an_etag(user: User, database_url: str) -> None:
    fill(user, database_url)
    first = user.call("GET", params={"limit": 2})
    again = user.call("GET", params={"limit": 2}, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_last_of_several_values_counts(user: User) -> None:
    user.create()
    path = f"{user.path}?limit=x&limit=1&q={quote('nothing')}&q="
    response: httpx.Response = user.client.get(path, headers=user.headers)
    assert response.json()["count"] == 1
