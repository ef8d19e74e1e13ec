"""A creation with an Idempotency-Key may be repeated: it makes one task."""

import uuid

import pytest

from support.creation import REUSED, TASK, age, assert_replays, create, is_replayed, keys
from support.postgres import connected
from support.service import (
    ORIGIN,
    User,
    assert_error,
)

MALFORMED = "Idempotency-Key must be 1 to 255 visible ASCII characters"
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))


# --- the same request again ---


@pytest.mark.parametrize(
    "body",
    [
        {"title": "x"},
        {"title": "x", "description": None},
        {"title": ' "Ünïcödé" \u2028 \\ / 😀', "description": "\t\n\r\x7f\x01"},
    ],
)
def test_a_repeated_creation_gets_the_first_response(user: User, body: object) -> None:
    first = create(user, "k", body)
    assert_replays(first, create(user, "k", body))
    assert_replays(first, create(user, "k", body, headers={"Origin": ORIGIN}))
    assert user.list() == [first.json()]
    assert first.json()["created_at"] == first.json()["updated_at"]


def test_the_first_response_is_that_of_a_creation_without_a_key(user: User) -> None:
    with_key, without = create(user, "k"), user.call("POST", json=TASK)
    assert list(with_key.json()) == list(without.json())
    assert set(with_key.headers) == set(without.headers)
    own = {"id", "created_at", "updated_at"}
    assert {name: value for name, value in with_key.json().items() if name not in own} == {
        name: value for name, value in without.json().items() if name not in own
    }


def test_it_is_the_first_response_even_if_the_task_has_changed_or_is_gone(user: User) -> None:
    first = create(user, "k")
    path = f"/{first.json()['id']}"
    for method, suffix, body in (
        ("PUT", "", {"title": "Changed", "description": None}),
        ("PATCH", "/complete", None),
        ("DELETE", "", None),
    ):
        assert user.call(method, path + suffix, json=body).status_code in {200, 204}
        assert_replays(first, create(user, "k"))
    assert user.list() == []


def test_the_payload_is_what_was_understood_and_not_its_bytes(user: User) -> None:
    first = create(user, "k", {"title": "é", "description": None})
    for body in (
        {"title": "é"},
        {"title": "é", "completed": True, "id": 7, "unknown": [1]},
        {"description": None, "title": "é"},
    ):
        assert_replays(first, create(user, "k", body))
    spaced = b'\n{ "title" : "\xc3\xa9" }\n'
    headers = {"Idempotency-Key": "k", "Content-Type": "application/vnd.x+json"}
    assert_replays(first, user.call("POST", content=spaced, headers=headers))


@pytest.mark.parametrize(
    "body",
    [
        {"title": "Buy groceries"},
        {"title": "Buy groceries", "description": ""},
        {"title": "Buy groceries ", "description": "Milk"},
        {"title": "buy groceries", "description": "Milk"},
        {"title": "Milk", "description": "Buy groceries"},
    ],
)
def test_another_payload_is_refused(user: User, body: object) -> None:
    first = create(user, "k")
    for _ in range(2):
        assert_error(create(user, "k", body), 422, REUSED, "IDEMPOTENCY_KEY_REUSED")
    assert_replays(first, create(user, "k"))
    assert user.list() == [first.json()]


def test_composed_and_decomposed_letters_are_two_payloads(user: User) -> None:
    create(user, "k", {"title": "\u00e9"})
    assert create(user, "k", {"title": "e\u0301"}).status_code == 422


def test_keys_are_compared_as_they_are(user: User) -> None:
    spellings = ["key", "KEY", "key ", "kez", "k%65y", "1", "01", '?"']
    ids = [create(user, key).json()["id"] for key in spellings if key.strip() == key]
    assert len(set(ids)) == len(ids) == 7


def test_every_user_has_keys_of_their_own(user: User, stranger: User) -> None:
    first, second = create(user, "k"), create(stranger, "k", {"title": "Other"})
    assert (first.status_code, second.status_code) == (201, 201)
    assert not is_replayed(second)
    assert stranger.list() == [second.json()]
    assert_replays(second, create(stranger, "k", {"title": "Other"}))


def test_a_key_is_for_creations_alone(user: User) -> None:
    path = f"/{create(user, 'k').json()['id']}"
    for key in ("k", ""):
        headers = {"Idempotency-Key": key}
        for completed in (True, False):
            toggled = user.call("PATCH", f"{path}/complete", headers=headers)
            assert (toggled.status_code, toggled.json()["completed"]) == (200, completed)
            assert not is_replayed(toggled)
        assert user.call("PUT", path, json={"title": "x"}, headers=headers).status_code == 200
        assert user.call("GET", headers=headers).status_code == 200


# --- what a key is ---


@pytest.mark.parametrize(
    "key",
    [
        *(
            "a",
            "A" * 255,
            "8e03978e-40d5-43dd-bc93-6894a57f9324",
            VISIBLE.replace('"', ""),
            'a"b',
            "a\\b",
            "\\",
            ":YQ==:",
        ),
        *("?1", "17", "a;p=1", "a,b", "*", "/"),
    ],
)
def test_a_bare_key_and_its_quoted_form_are_the_same_key(user: User, key: str) -> None:
    quoted = '"{}"'.format(key.replace("\\", "\\\\").replace('"', '\\"'))
    first = create(user, key)
    assert_replays(first, create(user, quoted))
    assert_replays(first, create(user, key))


@pytest.mark.parametrize("quoted", ['"a b"', '" "', '"\\""', '"\\\\"', '"' + "\\\\" * 255 + '"'])
def test_a_quoted_key_may_hold_what_a_bare_one_cannot(user: User, quoted: str) -> None:
    assert_replays(create(user, quoted), create(user, quoted))


def test_whitespace_around_a_value_is_not_part_of_it(user: User) -> None:
    headers = {**user.headers, "Content-Type": "application/json"}
    first = create(user, "k")
    # httpx sends what it is given, and the server may keep what follows the value.
    raw = [*headers.items(), ("Idempotency-Key", "k")]
    assert_replays(first, user.client.post(user.path, json=TASK, headers=raw))


@pytest.mark.parametrize(
    "key",
    [
        *("", "a b", "A" * 256, "a\tb", '"', '""', '"a', '"a"b', '"a";p=1', '"a", "b"', '"a"b"'),
        *('"a\\b"', '"a\\"', '"\\', '"' + "A" * 256 + '"', '"' + '\\"' * 256 + '"', '"a\tb"'),
        *("\xe9".encode(), b"\xe9", b'"\xe9"', b"a\xa0", b"\x80", '"a"  x', "A" * 60_000),
    ],
)
def test_a_malformed_key_is_refused(user: User, key: str | bytes) -> None:
    assert_error(create(user, key), 400, MALFORMED, "VALIDATION_ERROR")
    assert user.list() == []


@pytest.mark.parametrize("keys", [("a", "b"), ("a", "a"), ('"a', 'b"'), ("", "a"), ("a", "")])
def test_several_lines_are_refused(user: User, keys: tuple[str, ...]) -> None:
    headers = [*user.headers.items(), *(("Idempotency-Key", key) for key in keys)]
    response = user.client.post(user.path, json=TASK, headers=headers)
    assert_error(response, 400, MALFORMED, "VALIDATION_ERROR")
    assert user.list() == []


def test_the_token_and_the_path_come_before_the_key(user: User, stranger: User) -> None:
    headers = {"Idempotency-Key": ""}
    assert user.client.post(user.path, json=TASK, headers=headers).status_code == 401
    headers |= user.headers
    assert user.client.post(stranger.path, json=TASK, headers=headers).status_code == 403


def test_a_request_that_failed_does_not_use_up_its_key(user: User, stranger: User) -> None:
    assert create(user, "k", {"title": ""}).status_code == 400
    assert create(user, "k", [1]).status_code == 400
    large = user.call("POST", content=b" " * 70_000, headers={"Idempotency-Key": "k"})
    assert large.status_code == 413
    assert user.client.post(stranger.path, json=TASK, headers=user.headers).status_code == 403
    first = create(user, "k")
    assert_replays(first, create(user, "k"))


# --- 24 hours ---


def test_a_key_is_kept_for_24_hours(user: User, database_url: str) -> None:
    first = create(user, "k")
    age(database_url, user, 23.99)
    stored = create(user, "k")
    # The test has made the key older, and so the time that it stores.
    assert (stored.json()["id"], is_replayed(stored)) == (first.json()["id"], True)
    assert create(user, "k", {"title": "Other"}).status_code == 422
    age(database_url, user, 0.02)
    second = create(user, "k", {"title": "Other"})
    assert (second.status_code, is_replayed(second)) == (201, False)
    assert second.json()["id"] > first.json()["id"]
    assert_replays(second, create(user, "k", {"title": "Other"}))
    assert create(user, "k").status_code == 422
    assert len(user.list()) == 2


def test_expired_keys_go_away_by_themselves(user: User, stranger: User, database_url: str) -> None:
    with connected(database_url) as cursor:
        cursor.execute("DELETE FROM idempotency_keys")
    for number in range(25):
        create(user, f"old-{number}")
    create(user, "young")
    age(database_url, user, 25, "old-%")
    create(user, "young")  # a repetition removes none
    assert len(keys(database_url, user)) == 26
    # Their owner never comes back.
    for remaining in (16, 6, 1, 1):
        create(stranger, uuid.uuid4().hex)
        assert len(keys(database_url, user)) == remaining
    assert keys(database_url, user) == {"young"}
    assert len(user.list()) == 26


def test_a_creation_without_a_key_stores_none(user: User, database_url: str) -> None:
    user.create()
    assert keys(database_url, user) == set()
