"""The task endpoints: statuses, bodies, order of checks."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from schemas import TaskCreate
from support.postgres import connected
from support.service import ITEM_CALLS, Service, User, assert_error
from support.tokens import signed

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
TITLE_LENGTH = "Title must be between 1 and 200 characters"
ABSENT_ID = 2**31 - 1


def moment(timestamp: str) -> datetime:
    assert TIMESTAMP.fullmatch(timestamp)
    return datetime.fromisoformat(timestamp)


# --- create ---


def test_a_created_task_has_the_documented_body(user: User) -> None:
    before = datetime.now(UTC)
    response = user.call(
        "POST", json={"title": "Buy groceries", "description": "Milk, bread, eggs, coffee"}
    )
    task = response.json()
    assert response.status_code == 201
    assert response.headers["content-type"] == "application/json"
    assert task == {
        "id": task["id"],
        "user_id": user.id,
        "title": "Buy groceries",
        "description": "Milk, bread, eggs, coffee",
        "completed": False,
        "created_at": task["created_at"],
        "updated_at": task["created_at"],
    }
    assert type(task["id"]) is int
    assert abs(moment(task["created_at"]) - before) < timedelta(minutes=5)
    assert list(task) == [
        *("id", "user_id", "title", "description", "completed", "created_at", "updated_at")
    ]


def test_a_task_needs_only_a_title(user: User) -> None:
    assert user.create("Call home")["description"] is None


def test_a_client_cannot_set_what_the_service_sets(user: User) -> None:
    sent = {
        "id": 7,
        "user_id": "somebody",
        "completed": True,
        "created_at": "2020-01-01T00:00:00Z",
        "updated_at": "2020-01-01T00:00:00Z",
        "unknown": [1, {"a": None}],
    }
    task = user.create("Mine", **sent)
    changed = user.call("PUT", f"/{task['id']}", json={**sent, "title": "Still mine"}).json()
    for body in (task, changed):
        assert body["user_id"] == user.id
        assert body["created_at"] == task["created_at"] != sent["created_at"]
        assert body["updated_at"] > "2026"
    assert task["completed"] is False
    assert changed["id"] == task["id"]
    assert changed["completed"] is True


def test_a_field_may_have_a_name_that_the_code_uses(user: User) -> None:
    names = {"self", "cls", "data", "__pydantic_self__", *dir(TaskCreate)}
    unknown = dict.fromkeys(names - {"title", "description"}, 1)
    created = user.call("POST", json={"title": "Mine"} | unknown)
    task = created.json()
    assert (created.status_code, task["title"]) == (201, "Mine")
    changed = user.call("PUT", f"/{task['id']}", json=unknown)
    assert (changed.status_code, changed.json()) == (200, task)
    every = user.call("PATCH", json=unknown | {"completed": True})
    assert (every.status_code, every.json()) == (200, {"updated": 1})


# --- list ---


def test_a_new_user_has_no_tasks(user: User) -> None:
    assert user.call("GET").json() == {"tasks": [], "count": 0}


def test_tasks_are_listed_newest_first(user: User) -> None:
    tasks = [user.create(f"Task {number}") for number in range(3)]
    assert user.list() == user.list(sort="created", status="all") == tasks[::-1]


def test_tasks_of_the_same_moment_are_listed_by_id_newest_first(
    user: User, database_url: str
) -> None:
    with connected(database_url) as cursor:
        cursor.execute(
            "INSERT INTO tasks (user_id, title) SELECT %s, 'same' FROM generate_series(1, 20)",
            [user.id],
        )
    ids = [task["id"] for task in user.list()]
    assert len(ids) == 20
    assert ids == sorted(ids, reverse=True)


@pytest.mark.parametrize("number", [500, 501, 1201, 4001])  # TURN and PORTION in statements.py
def test_long_lists_are_whole_and_in_order(user: User, database_url: str, number: int) -> None:
    with connected(database_url) as cursor:
        cursor.execute(
            "INSERT INTO tasks (user_id, title, created_at) SELECT %s, 'Nº ' || 9999 - i,"
            " timestamp '2026-01-01' + i * interval '1 second' FROM generate_series(1, %s) i",
            [user.id, number],
        )
    oldest_first = [9999 - i for i in range(1, number + 1)]
    assert [task["title"] for task in user.list()] == [f"Nº {i}" for i in oldest_first[::-1]]
    by_title = user.list(sort="title")
    assert [task["title"] for task in by_title] == [f"Nº {i}" for i in sorted(oldest_first)]
    oldest = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    assert datetime.fromisoformat(by_title[0]["created_at"]) == oldest


def test_tasks_are_filtered_by_status(user: User) -> None:
    pending, completed = user.create("pending"), user.create("completed")
    completed = user.call("PATCH", f"/{completed['id']}/complete").json()
    assert user.list(status="pending") == [pending]
    assert user.list(status="completed") == [completed]
    assert user.list(status="all", sort="title") == [completed, pending]


def test_titles_are_sorted_alphabetically_whatever_the_case(user: User) -> None:
    expected = [
        *("1 first", "äpfel", "apple", "Apple", "Banana", "BANANAS", "cherry", "Éclair", "eclairs"),
        *("Ömer", "STRASSE", "straße", "zebra"),
    ]
    for title in ("zebra", "Éclair", "BANANAS", "cherry", "apple", "1 first", "Ömer"):
        user.create(title)
    for title in ("Banana", "Apple", "STRASSE", "eclairs", "straße", "äpfel"):
        user.create(title)
    assert [task["title"] for task in user.list(sort="title")] == expected


def test_equal_titles_are_sorted_by_id(user: User) -> None:
    tasks = [user.create(title) for title in ("same", "SAME", "Same")]
    assert user.list(sort="title") == tasks


# --- get, update, delete, toggle ---


def test_a_task_is_read(user: User) -> None:
    task = user.create()
    response = user.call("GET", f"/{task['id']}")
    assert (response.status_code, response.json()) == (200, task)


def test_an_update_changes_only_what_is_sent(user: User) -> None:
    task = user.create("Old", description="Keep")
    response = user.call("PUT", f"/{task['id']}", json={"title": "New", "completed": True})
    changed = response.json()
    assert response.status_code == 200
    assert changed == task | {
        "title": "New",
        "completed": True,
        "updated_at": changed["updated_at"],
    }
    assert moment(changed["updated_at"]) > moment(task["updated_at"])
    assert user.call("GET", f"/{task['id']}").json() == changed


def test_null_clears_the_description(user: User) -> None:
    task = user.create(description="Clear me")
    assert user.call("PUT", f"/{task['id']}", json={"description": None}).json() == task | {
        "description": None,
        "updated_at": user.list()[0]["updated_at"],
    }


@pytest.mark.parametrize("body", [{}, {"id": 5, "unknown": "x"}])
def test_an_update_of_nothing_changes_nothing(user: User, body: dict[str, object]) -> None:
    task = user.create(description="Stays")
    response = user.call("PUT", f"/{task['id']}", json=body)
    assert (response.status_code, response.json()) == (200, task)
    assert user.list() == [task]


def test_a_toggle_goes_back_and_forth(user: User) -> None:
    task = user.create()
    for completed in (True, False, True):
        response = user.call("PATCH", f"/{task['id']}/complete")
        toggled = response.json()
        assert response.status_code == 200
        assert toggled == task | {"completed": completed, "updated_at": toggled["updated_at"]}
        assert moment(toggled["updated_at"]) > moment(task["updated_at"])
        assert abs(datetime.now(UTC) - moment(toggled["updated_at"])) < timedelta(minutes=5)


def test_a_deleted_task_is_gone(user: User) -> None:
    task, other = user.create(), user.create()
    response = user.call("DELETE", f"/{task['id']}")
    assert (response.status_code, response.content) == (204, b"")
    for method, path in (("GET", ""), ("DELETE", ""), ("PATCH", "/complete")):
        assert user.call(method, f"/{task['id']}{path}").status_code == 404
    assert user.list() == [other]


def test_concurrent_toggles_are_all_counted(user: User) -> None:
    task = user.create()
    with ThreadPoolExecutor(10) as threads:
        responses = list(
            threads.map(lambda _: user.call("PATCH", f"/{task['id']}/complete"), range(31))
        )
    assert (
        sorted(response.json()["completed"] for response in responses) == [False] * 15 + [True] * 16
    )
    assert user.call("GET", f"/{task['id']}").json()["completed"] is True


def test_concurrent_updates_of_different_fields_keep_both(user: User) -> None:
    task = user.create()
    for number in range(10):
        bodies: list[dict[str, object]] = [
            {"title": f"Title {number}"},
            {"description": f"Description {number}"},
        ]
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda body: user.call("PUT", f"/{task['id']}", json=body), bodies))
        changed = user.call("GET", f"/{task['id']}").json()
        assert (changed["title"], changed["description"]) == (
            f"Title {number}",
            f"Description {number}",
        )


@pytest.mark.parametrize(("method", "suffix", "body"), ITEM_CALLS)
@pytest.mark.parametrize(
    "task_id", [str(ABSENT_ID), "0", "-1", "2147483648", "-2147483649", "9" * 30, "9" * 5000]
)
def test_a_missing_task_is_not_found(
    user: User, task_id: str, method: str, suffix: str, body: object
) -> None:
    response = user.call(method, f"/{task_id}{suffix}", json=body)
    detail = f"Task with id {task_id[:4000]} not found"
    assert_error(response, 404, detail, "NOT_FOUND")


@pytest.mark.parametrize(("method", "suffix", "body"), ITEM_CALLS)
def test_another_users_task_is_forbidden(
    user: User, stranger: User, method: str, suffix: str, body: object
) -> None:
    task = user.create()
    response = stranger.call(method, f"/{task['id']}{suffix}", json=body)
    assert_error(response, 403, "Access denied: task belongs to another user", "FORBIDDEN")
    assert user.list() == [task]
    assert stranger.list() == []


# --- order of checks ---


def test_a_bad_body_comes_before_a_missing_or_foreign_task(user: User, stranger: User) -> None:
    foreign = stranger.create()
    for task_id in (foreign["id"], ABSENT_ID, 2**40):
        response = user.call("PUT", f"/{task_id}", json={"title": ""})
        assert_error(response, 400, TITLE_LENGTH, "VALIDATION_ERROR")


def test_another_user_in_the_path_comes_before_everything_sent(
    service: Service, user: User
) -> None:
    for method, path, content in (
        ("GET", "?status=bad", b""),
        ("POST", "", b"{"),
        ("POST", "", b"x" * 100_000),
        ("GET", "/abc", b""),
        ("PUT", "/1", b"not json"),
        ("DELETE", "/1.5", b""),
        ("PATCH", "/9999999999/complete", b""),
    ):
        headers = {"Authorization": f"Bearer {signed(sub='somebody-else')}"}
        response = service.client.request(
            method, user.path + path, content=content, headers=headers
        )
        assert_error(response, 403, "Access denied: user_id mismatch", "FORBIDDEN")


# --- user ids ---
