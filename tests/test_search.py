"""Search: whatever the case and the script, on every server."""

import unicodedata

import pytest

from support.service import User, assert_error

FOUND = [
    ("élan", "ÉLAN"),
    ("дом", "ДОМ"),
    ("ДОМ", "мой дом"),
    ("strasse", "Straße"),
    ("STRASSE", "Straße"),
    ("straße", "STRASSE"),
    ("ß", "ẞ"),
    ("\u03c3", "ς"),
    ("fi", "ﬁn"),
    ("k", "\u212a"),
    ("İ", "i\u0307"),
    ("\u1fb4", "\u03b1\u0345\u0301"),
    (unicodedata.normalize("NFD", "é"), "É"),
    ("é", unicodedata.normalize("NFD", "É")),
    ("각", unicodedata.normalize("NFD", "각")),
    ("%", "100%"),
    ("_", "snake_case"),
    ("\\", "back\\slash"),
    ("'", "it's"),
    (" ", "two words"),
    ("o w", "two words"),
    ("\t", "tab\there"),
    ("🧑", "a 🧑"),
    ("milk", "MILK"),
    ("x" * 200, "X" * 200),
]
NOT_FOUND = [
    ("%", "percent"),
    ("a_c", "abc"),
    ("\\", "/"),
    (" milk", "milk"),
    ("milk ", "milk"),
    ("  ", "two words"),
    ("e", "É"),
    ("elan", "élan"),
    ("ab", "ba"),
]


@pytest.mark.parametrize(("q", "text"), FOUND)
def test_a_text_is_found_in_titles_and_descriptions(user: User, q: str, text: str) -> None:
    in_title = user.create(text)
    in_description = user.create("other", description=f"Before {text} after")
    user.create("nothing", description="Nothing")
    user.create("nothing")
    assert user.list(q=q) == [in_description, in_title]
    assert user.list(q=q, sort="title", order="desc")[-1] in (in_title, in_description)
    body = user.call("GET", params={"q": q, "limit": 1}).json()
    assert (body["tasks"], body["total"]) == ([in_description], 2)


@pytest.mark.parametrize(("q", "text"), NOT_FOUND)
def test_only_what_contains_the_text_is_found(user: User, q: str, text: str) -> None:
    user.create(text, description=text)
    assert user.list(q=q) == []


def test_title_and_description_are_searched_one_by_one(user: User) -> None:
    user.create("one", description="two")
    for q in ("onetwo", "one two", "e\nt"):
        assert user.list(q=q) == []


def test_an_empty_text_is_no_filter(user: User) -> None:
    task = user.create()
    assert user.list(q="") == [task]


def test_only_the_users_own_tasks_are_found(user: User, stranger: User) -> None:
    user.create("needle")
    assert stranger.list(q="needle") == []


def test_the_status_counts_too(user: User) -> None:
    user.create("needle")
    done = user.create("needle")
    user.call("PATCH", f"/{done['id']}/complete")
    assert [task["id"] for task in user.list(q="NEEDLE", status="completed")] == [done["id"]]


@pytest.mark.parametrize("q", ["x" * 201, "🧑" * 201])
def test_a_long_text_is_refused(user: User, q: str) -> None:
    response = user.call("GET", params={"q": q})
    assert_error(response, 400, "Q must be at most 200 characters", "VALIDATION_ERROR")


@pytest.mark.parametrize(
    "q", ["%00", "a%00b", "%FF", "%C3", "%ED%A0%80", "a%C3%28", "%F4%90%80%80"]
)
def test_what_cannot_be_stored_is_refused(user: User, q: str) -> None:
    detail = "Q must not contain characters that cannot be stored"
    for query in (f"?q={q}", f"?q=x&q={q}", f"?limit=1&q={q}"):
        assert_error(user.call("GET", query), 400, detail, "VALIDATION_ERROR")


def test_a_plus_is_a_space(user: User) -> None:
    task = user.create("two words")
    assert user.call("GET", "?q=o+w").json()["tasks"] == [task]


def test_other_parameters_are_ignored_whatever_they_hold(user: User) -> None:
    assert user.call("GET", "?other=%FF&page=2&%FF=%00").status_code == 200
