"""Clients that send too much or too slowly, or do not read, are refused or cut off in time."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from support.postgres import connected
from support.raw import (
    TASK,
    Raw,
    assert_refused,
    connected_to,
    exchanged,
    posted,
    request,
    statuses,
)
from support.service import Service, User, assert_clean_log, environment, running, wait_for


@pytest.fixture
def user(served: Service) -> User:
    return served.user()


def test_after_an_early_answer_the_connection_ends(served: Service, user: User) -> None:
    large = posted(user, "Content-Length: 50000000", body=b"")
    anonymous = re.sub(b"Authorization.*\r\n", b"", large)
    endless = anonymous.replace(b"Content-Length: 50000000", b"Transfer-Encoding: chunked")
    for head, status in ((large, 413), (anonymous, 401), (endless, 401)):
        with connected_to(served) as connection:
            connection.sendall(head)
            raw = Raw(connection)
            answer = raw.answer()
            assert answer
            assert (answer.status, answer.headers["connection"]) == (status, "close")
            # It is not parsed: chunks would be no chunks here.
            connection.sendall(b"neither a body nor chunks\r\n\r\n")
            assert raw.answers() == []


def test_a_401_keeps_a_connection_whose_request_is_complete(served: Service, user: User) -> None:
    post = re.sub(b"Authorization.*\r\n", b"", posted(user, f"Content-Length: {len(TASK)}"))
    answers = exchanged(served, post + post + request(user, "GET", "/x", "Connection: close"))
    assert [(answer.status, answer.headers.get("connection")) for answer in answers] == [
        (401, None),
        (401, None),
        (404, "close"),
    ]


@pytest.mark.parametrize("segment", [100, 1000, 4096, 65_536, 100_000])
@pytest.mark.parametrize("line", [b"X: %b" % (70_000 * b"x"), b"X: 1234\r\n" * 8000])
def test_a_head_of_70_kb_is_refused_however_it_is_cut(
    served: Service, user: User, segment: int, line: bytes
) -> None:
    head = request(user, "GET", user.path)[:-2] + line + b"\r\n\r\n"
    segments = [head[n : n + segment] for n in range(0, len(head), segment)]
    (answer,) = exchanged(served, *segments)
    assert_refused(answer, 431, "REQUEST_HEADER_FIELDS_TOO_LARGE", served)


def test_a_head_of_64_kib_is_accepted(served: Service, user: User) -> None:
    head = request(user, "GET", user.path, "Connection: close", "X: ")
    head = head[:-4] + b"x" * (65_536 - len(head)) + b"\r\n\r\n"
    assert statuses(exchanged(served, head)) == [200]
    (answer,) = exchanged(served, head.replace(b"X: ", b"X: x"))
    assert_refused(answer, 431, "REQUEST_HEADER_FIELDS_TOO_LARGE", served)


@pytest.mark.parametrize("rest", [b"1;" + 70_000 * b"x", b"0\r\n" + 8000 * b"X: 1234\r\n"])
def test_extensions_and_trailers_have_the_limit_of_headers(
    served: Service, user: User, rest: bytes
) -> None:
    head = posted(user, "Transfer-Encoding: chunked", body=b"1\r\n{\r\n")
    (answer,) = exchanged(served, head, rest)
    assert_refused(answer, 431, "REQUEST_HEADER_FIELDS_TOO_LARGE", served)


def test_a_large_body_may_come_in_the_smallest_chunks(served: Service, user: User) -> None:
    task = json.dumps({"title": "x", "ignored": "x" * 60_000}).encode()
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in task) + b"0\r\n\r\n"
    post = posted(user, "Transfer-Encoding: chunked", "Connection: close", body=body)
    assert statuses(exchanged(served, post)) == [201]


@pytest.fixture(scope="module")
def impatient(database_url: str) -> Iterator[Service]:
    """The service with limits of a second or two where it has 15 and 30."""
    code = (
        "import protocol, server; protocol.RECEIVE_TIMEOUT = 1; protocol.WRITE_TIMEOUT = 2;"
        "server.run()"
    )
    with running(environment(database_url), program=("-c", code)) as service:
        yield service
        output = service.output()
    assert_clean_log(output, database_url)


@pytest.mark.parametrize("cut", [1, 20, 70, -1])
def test_half_a_request_is_refused_in_time(impatient: Service, cut: int) -> None:
    user = impatient.user()
    (answer,) = exchanged(impatient, posted(user, f"Content-Length: {len(TASK)}")[:cut])
    assert_refused(answer, 408, "REQUEST_TIMEOUT", impatient)
    assert user.list() == []


def test_half_a_request_after_another_is_refused_in_time(impatient: Service) -> None:
    user = impatient.user()
    post = posted(user, f"Content-Length: {len(TASK)}")
    created, refused = exchanged(impatient, post + post[:-1])
    assert created.status == 201
    assert_refused(refused, 408, "REQUEST_TIMEOUT", impatient)


def test_a_connection_on_which_nothing_comes_is_closed(impatient: Service) -> None:
    assert exchanged(impatient) == []


# --- clients that do not read ---


@pytest.fixture
def long_list(impatient: Service, database_url: str) -> User:
    """A user whose list is more than the kernel takes for a client: 18 MB."""
    user = impatient.user()
    with connected(database_url) as cursor:
        cursor.execute(
            "INSERT INTO tasks (user_id, title, description)"
            " SELECT %s, 'x', repeat('x', 1000) FROM generate_series(1, 15000)",
            [user.id],
        )
    return user


def test_a_client_that_reads_nothing_is_cut_off(impatient: Service, long_list: User) -> None:
    with connected_to(impatient) as connection:
        get = request(long_list, "GET", long_list.path)
        connection.sendall(get + get)
        wait_for(lambda: "took nothing of its answer for 2 s" in impatient.output())
        received = 0
        with suppress(ConnectionResetError):
            while part := connection.recv(65_536):
                received += len(part)
    assert received < 18_000_000
    assert len(long_list.list()) == 15_000


def test_a_client_that_reads_slowly_gets_everything(impatient: Service, long_list: User) -> None:
    """Slowly enough to need more than the limit for what the kernel would hold by itself."""
    with connected_to(impatient, receive_buffer=65_536) as connection:
        connection.sendall(request(long_list, "GET", long_list.path, "Connection: close"))
        received, started = 0, time.monotonic()
        while part := connection.recv(16_384):
            received += len(part)
            time.sleep(0.1 if time.monotonic() < started + 8 else 0)
    assert received > 15_000 * 1_100


def test_a_client_that_reads_nothing_does_not_delay_the_end(
    database_url: str, long_list: User
) -> None:
    with (
        running(environment(database_url), program=("main.py",)) as service,
        connected_to(service) as unread,
    ):
        unread.sendall(request(long_list, "GET", long_list.path))
        assert unread.recv(1)
        assert service.stop() == 0
        assert "took nothing of its answer for 3 s" in service.output()
        assert "Cancel" not in service.output()
