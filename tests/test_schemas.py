"""What may be sent, and what one sentence says of the rest."""

import pytest

from support.service import ITEM_CALLS, Service, User, assert_error

TITLE_LENGTH = "Title must be between 1 and 200 characters"
DESCRIPTION_LENGTH = "Description must be at most 1000 characters"
NOT_STORABLE = "must not contain characters that cannot be stored"
NOT_AN_OBJECT = "Request body must be a JSON object, sent with Content-Type: application/json"


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


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("status=done", "Status must be all, pending or completed"),
        ("status=", "Status must be all, pending or completed"),
        ("status=ALL", "Status must be all, pending or completed"),
        ("status=%00", "Status must be all, pending or completed"),
        ("status=%ED%A0%80", "Status must not contain characters that cannot be stored"),
        ("sort=newest", "Sort must be created, title or updated"),
        ("sort=title%0A", "Sort must be created, title or updated"),
        ("status=all&status=nothing", "Status must be all, pending or completed"),
    ],
)
def test_a_bad_query_parameter_is_refused(user: User, query: str, detail: str) -> None:
    response = user.client.get(f"{user.path}?{query}", headers=user.headers)
    assert_error(response, 400, detail, "VALIDATION_ERROR")


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
