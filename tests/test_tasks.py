"""The task endpoints: statuses, bodies, validation, order of checks."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import Service, User, connected
from tokens import signed

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
TITLE_LENGTH = "Title must be between 1 and 200 characters"
DESCRIPTION_LENGTH = "Description must be at most 1000 characters"
NOT_STORABLE = "must not contain characters that cannot be stored"
NOT_AN_OBJECT = "Request body must be a JSON object, sent with Content-Type: application/json"
ABSENT_ID = 2**31 - 1


def error(detail: str, code: str = "VALIDATION_ERROR") -> dict[str, str]:
    return {"detail": detail, "code": code}


def assert_error(response: Any, status: int, detail: str, code: str) -> None:  # noqa: ANN401
    assert (response.status_code, response.json()) == (status, error(detail, code))
    assert response.headers["content-type"] == "application/json"


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
    assert abs(moment(task["created_at"]) - before) < timedelta(seconds=5)
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


@pytest.mark.parametrize(
    "title",
    [
        "x",
        "x" * 200,
        "🦊" * 200,
        "  spaces stay  ",
        "line\nbreak\ttab",
        "a\u200b",
        "e\u0301 is not \u00e9",
        "'; DROP TABLE tasks; --",
        '%s %(title)s {} \\ " </script>',
        "\u202emirrored",
        "\U0010ffff\ufffe",
        "👨‍👩‍👧",
    ],
)
def test_a_title_is_stored_exactly_as_sent(user: User, title: str) -> None:
    task = user.create(title, description=title)
    stored = user.call("GET", f"/{task['id']}").json()
    assert stored["title"] == stored["description"] == title


@pytest.mark.parametrize("description", ["", " ", "x" * 1000, "🦊" * 1000])
def test_a_description_may_be_empty_or_long(user: User, description: str) -> None:
    assert user.create(description=description)["description"] == description


BLANKS = [
    *("", " ", "\t\r\n", "\u00a0\u2003\u3000", "\u200b", "\ufeff", "\u00ad\u2060", "\u3164"),
    *("\u115f\u1160\uffa0", "\u2800", "\ufe0f", "\u034f", "\U000e0020", "\u2028", "\x01\x7f"),
    *("\u180e", "\ufff9\ufffb", "\u061c\u2066", "\u00a0\u200d\ufe0f \u3164", "\U0001d159"),
]
BAD_FIELDS = [
    *(("title", blank, TITLE_LENGTH) for blank in BLANKS),
    ("title", "x" * 201, TITLE_LENGTH),
    ("title", "🦊" * 201, TITLE_LENGTH),
    ("title", None, "Title must be a string"),
    ("title", 1, "Title must be a string"),
    ("title", True, "Title must be a string"),
    ("title", ["a"], "Title must be a string"),
    ("title", {"a": 1}, "Title must be a string"),
    ("title", "nul\0", f"Title {NOT_STORABLE}"),
    ("title", "\ud800", f"Title {NOT_STORABLE}"),
    ("title", "\udfff tail", f"Title {NOT_STORABLE}"),
    ("description", "x" * 1001, DESCRIPTION_LENGTH),
    ("description", 1, "Description must be a string"),
    ("description", False, "Description must be a string"),
    ("description", [], "Description must be a string"),
    ("description", "\0", f"Description {NOT_STORABLE}"),
    ("description", "a\udc00b", f"Description {NOT_STORABLE}"),
]


@pytest.mark.parametrize(("name", "value", "detail"), BAD_FIELDS)
def test_a_bad_field_is_refused(user: User, name: str, value: object, detail: str) -> None:
    task = user.create()
    for method, path in (("POST", ""), ("PUT", f"/{task['id']}")):
        response = user.call(method, path, json={"title": "ok", name: value})
        assert_error(response, 400, detail, "VALIDATION_ERROR")
    assert user.list() == [task]


@pytest.mark.parametrize("value", [None, 0, 1, "true", "yes", [], {}, 1.0])
def test_completed_is_a_boolean_only(user: User, value: object) -> None:
    task = user.create()
    response = user.call("PUT", f"/{task['id']}", json={"completed": value})
    assert_error(response, 400, "Completed must be true or false", "VALIDATION_ERROR")


def test_a_missing_title_is_named(user: User) -> None:
    response = user.call("POST", json={"description": "x"})
    assert_error(response, 400, "Title is required", "VALIDATION_ERROR")


BAD_BODIES = [
    (b"", NOT_AN_OBJECT),
    (b"[]", NOT_AN_OBJECT),
    (b"null", NOT_AN_OBJECT),
    (b'"title"', NOT_AN_OBJECT),
    (b"1", NOT_AN_OBJECT),
    (b"{", "Request body must be valid JSON"),
    (b'{"title": "a",}', "Request body must be valid JSON"),
    (b"{'title': 'a'}", "Request body must be valid JSON"),
    (b'{"title": "\xff"}', "Request body must be valid JSON"),
    (b'{"title": "a" "b"}', "Request body must be valid JSON"),
    (b"[" * 30000, "Request body must be valid JSON"),
    (b'{"a":' * 10000, "Request body must be valid JSON"),
    (b'{"title": ' + b"9" * 5000 + b"}", "Request body must be valid JSON"),
    (b'{"title": NaN}', "Title must be a string"),
    (b'{"title": 1e999}', "Title must be a string"),
]


@pytest.mark.parametrize(("body", "detail"), BAD_BODIES)
def test_a_body_that_is_no_json_object_is_refused(user: User, body: bytes, detail: str) -> None:
    task = user.create()
    for method, path in (("POST", ""), ("PUT", f"/{task['id']}")):
        response = user.call(
            method, path, content=body, headers={"Content-Type": "application/json"}
        )
        assert_error(response, 400, detail, "VALIDATION_ERROR")


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_needs_the_json_content_type(user: User, content_type: str | None) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = user.call("POST", content=b'{"title": "a"}', headers=headers)
    assert_error(response, 400, NOT_AN_OBJECT, "VALIDATION_ERROR")


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


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("status=done", "Status must be all, pending or completed"),
        ("status=", "Status must be all, pending or completed"),
        ("status=ALL", "Status must be all, pending or completed"),
        ("status=%00", "Status must be all, pending or completed"),
        ("status=%ED%A0%80", "Status must be all, pending or completed"),
        ("sort=updated", "Sort must be created or title"),
        ("sort=title%0A", "Sort must be created or title"),
        ("status=all&status=nothing", "Status must be all, pending or completed"),
    ],
)
def test_a_bad_query_parameter_is_refused(user: User, query: str, detail: str) -> None:
    response = user.client.get(f"{user.path}?{query}", headers=user.headers)
    assert_error(response, 400, detail, "VALIDATION_ERROR")


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


ITEM_CALLS: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("PUT", "", {"title": "x"}),
    ("PUT", "", {}),
    ("DELETE", "", None),
    ("PATCH", "/complete", None),
]


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
@pytest.mark.parametrize(
    "task_id",
    [
        *("abc", "1.0", "+1", "%201", "1%20", "1_0", "0x1", "1e3", "%D9%A1", "--1", "-", "1%0A"),
        *("%00", "%ED%A0%80", "1%2F2", "null", "NaN", "%F0%9D%9F%8F", "1;drop"),
    ],
)
def test_a_task_id_is_plain_decimal_digits(
    user: User, task_id: str, method: str, suffix: str, body: object
) -> None:
    response = user.call(method, f"/{task_id}{suffix}", json=body)
    assert_error(response, 400, "Task id must be a whole number", "VALIDATION_ERROR")


def test_a_task_id_may_be_spelled_with_zeros_and_escapes(user: User) -> None:
    task = user.create()
    escaped = "".join(f"%{ord(digit):02X}" for digit in str(task["id"]))
    for spelling in (f"000{task['id']}", escaped):
        assert user.call("GET", f"/{spelling}").json() == task


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


@pytest.mark.parametrize(
    "user_id",
    [
        "1",
        "550e8400-e29b-41d4-a716-446655440000",
        "auth0|abc",
        "user@example.com",
        "with space+plus",
        "a/b",
        "a/tasks/1",
        "/",
        "%2F",
        "100%",
        "?status=done#x",
        "ünï·код·🦊",
        "x" * 255,
        "🦊" * 255,
        "line\nbreak",
        "tasks",
        "\\..\\",
        "[bracket] [x]",
        "'\"<>",
        " ",
    ],
)
def test_any_user_id_works_percent_encoded(service: Service, user_id: str) -> None:
    user = service.user(user_id)
    task = user.create()
    try:
        assert task["user_id"] == user_id
        assert user.list() == [task]
        assert user.call("PATCH", f"/{task['id']}/complete").json()["completed"] is True
    finally:
        assert user.call("DELETE", f"/{task['id']}").status_code == 204


def test_user_ids_that_differ_only_a_little_are_different_users(service: Service) -> None:
    task = service.user("Alice").create()
    for user_id in ("alice", "Alice ", "Alice%20", "Älice"):
        other = service.user(user_id)
        assert other.list() == []
        assert other.call("GET", f"/{task['id']}").status_code == 403
    assert service.user("Alice").call("DELETE", f"/{task['id']}").status_code == 204
