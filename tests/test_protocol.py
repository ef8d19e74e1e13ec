"""Where a request ends: what is refused, and what is answered, byte by byte."""

import json
import re
import socket
import time

import pytest

from support.raw import (
    CHUNKED,
    INVALID,
    TASK,
    Raw,
    assert_refused,
    connected_to,
    exchanged,
    posted,
    request,
    statuses,
)
from support.service import Service, User

UPGRADES = ["h2c", "websocket", "TLS/1.3", "anything"]


@pytest.fixture
def user(served: Service) -> User:
    return served.user()


# --- a body is never a request ---


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_for_an_upgrade_is_a_plain_one(
    served: Service, user: User, upgrade: str, *, chunked: bool
) -> None:
    lines = ["Connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}", "HTTP2-Settings: AAEA"]
    lines += ["Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(TASK)}"]
    post = posted(user, *lines, body=CHUNKED if chunked else TASK)
    answers = exchanged(served, post + post + request(user, "GET", user.path, "Connection: close"))
    assert statuses(answers) == [201, 201, 200]
    assert json.loads(answers[2].body)["count"] == 2


def test_java_can_post(served: Service, user: User) -> None:
    """What `java.net.http.HttpClient` of Java 17 sends unless told otherwise, body apart."""
    head = (
        f"POST {user.path} HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        f"Content-Length: {len(TASK)}\r\nHost: localhost:8000\r\n"
        "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\n"
        "User-Agent: Java-http-client/17.0.17\r\n"
        f"Authorization: {user.headers['Authorization']}\r\nContent-Type: application/json\r\n\r\n"
    )
    with connected_to(served) as connection:
        for _ in range(2):
            connection.sendall(head.encode())
            connection.sendall(TASK)
            answer = Raw(connection).answer()
            assert answer
            assert answer.status == 201
            assert "connection" not in answer.headers


@pytest.mark.parametrize("framing", [*UPGRADES, "Content-Length", "chunked"])
def test_a_request_inside_a_body_is_not_executed(served: Service, user: User, framing: str) -> None:
    inner = request(user, "DELETE", f"{user.path}/{user.create()['id']}")
    lines = [f"Content-Length: {len(inner)}"]
    if framing == "chunked":
        lines, inner = (
            ["Transfer-Encoding: chunked"],
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(inner), inner),
        )
    elif framing != "Content-Length":
        lines += ["Connection: Upgrade", f"Upgrade: {framing}"]
    answers = exchanged(
        served, posted(user, *lines, body=inner) + request(user, "GET", "/x", "Connection: close")
    )
    assert statuses(answers) == [400, 404]
    assert len(user.list()) == 1


SMUGGLED = [
    (["Content-Length: 26", "Transfer-Encoding: chunked"], TASK),
    (["Transfer-Encoding: chunked", "Content-Length: 26"], CHUNKED),
    (["Content-Length: 26", "Content-Length: 26"], TASK),
    (["Content-Length: 26", "Content-Length: 3"], TASK),
    (["Content-Length: 26, 26"], TASK),
    (["Content-Length: +26"], TASK),
    (["Content-Length: -26"], TASK),
    (["Content-Length: 0x1a"], TASK),
    (["Content-Length: 2_6"], TASK),
    (["Content-Length: 26.0"], TASK),
    (["Content-Length:"], TASK),
    (["Content-Length: " + "9" * 30], TASK),
    (["Content-Length: " + "9" * 5000], TASK),
    (["Content-Length : 26"], TASK),
    (["Content-Length: 26", "X-Folded: a", " Transfer-Encoding: chunked"], TASK),
    (["X-Folded: a", "\tContent-Length: 26"], TASK),
    (["Transfer-Encoding: xchunked"], CHUNKED),
    (["Transfer-Encoding: chunked, identity"], CHUNKED),
    (["Transfer-Encoding: identity, chunked"], CHUNKED),
    (["Transfer-Encoding: gzip, chunked"], CHUNKED),
    (["Transfer-Encoding: identity"], CHUNKED),
    (["Transfer-Encoding: identity", "Transfer-Encoding: chunked"], CHUNKED),
    (["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"], CHUNKED),
    (["Transfer-Encoding:\x0bchunked"], CHUNKED),
    (["Transfer-Encoding : chunked"], CHUNKED),
    (["Transfer-Encoding: chunked", "X: a\nContent-Length: 26"], CHUNKED),
]


@pytest.mark.parametrize(("lines", "body"), SMUGGLED)
def test_framing_that_is_not_clear_is_refused(
    served: Service, user: User, lines: list[str], body: bytes
) -> None:
    (answer,) = exchanged(served, posted(user, *lines, body=body) + request(user, "GET", "/x"))
    assert_refused(answer, 400, "VALIDATION_ERROR", served)
    assert json.loads(answer.body) == INVALID
    assert user.list() == []


@pytest.mark.parametrize(
    "size",
    [b"0x1a", b"1a ", b" 1a", b"+1a", b"-1", b"1_a", b"g", b"", b"f" * 17, b"1a\n", b'1a;"\n"'],
)
def test_a_chunk_without_a_clear_size_is_refused(served: Service, user: User, size: bytes) -> None:
    body = b"%b\r\n%b\r\n0\r\n\r\n" % (size, TASK)
    (answer,) = exchanged(served, posted(user, "Transfer-Encoding: chunked", body=body))
    assert_refused(answer, 400, "VALIDATION_ERROR", served)
    assert user.list() == []


@pytest.mark.parametrize("rest", [b"x", b"\n0\r\n\r\n", b"\r0\r\n\r\n", b"0\r\n\r\n", b"\r\n0\n\n"])
def test_a_chunk_with_another_end_is_refused(served: Service, user: User, rest: bytes) -> None:
    body = b"%x\r\n%b" % (len(TASK), TASK) + rest
    (answer,) = exchanged(served, posted(user, "Transfer-Encoding: chunked", body=body))
    assert_refused(answer, 400, "VALIDATION_ERROR", served)
    assert user.list() == []


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0", "3.0", "11", "1.1.1"])
def test_another_version_of_http_is_refused(served: Service, version: str) -> None:
    (answer,) = exchanged(served, f"GET /x HTTP/{version}\r\nHost: x\r\n\r\n".encode())
    assert_refused(answer, 400, "VALIDATION_ERROR", served)


@pytest.mark.parametrize(
    "content",
    [
        *(b"GET /x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00", b"x"),
        *(b"CONNECT x:443 HTTP/1.1\r\n\r\n", b"GET /x HTTP/1.1\n\n", b"GET /\xe9 HTTP/1.1\r\n\r\n"),
        *(b"GET /x HTTP/1.1\r\nA: \x00\r\n\r\n", b"GET /x HTTP/1.1\r\nno header\r\n\r\n"),
        b"GET /x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused(served: Service, content: bytes) -> None:
    (answer,) = exchanged(served, content)
    assert_refused(answer, 400, "VALIDATION_ERROR", served)


@pytest.mark.parametrize(
    "length", ["0" * 5000 + "26", "26 ", " 26", "\t26\t", "0026", "0" * 60_000 + "26"]
)
def test_a_length_may_have_zeros_and_space(served: Service, user: User, length: str) -> None:
    post = posted(user, f"Content-Length:{length}", "Connection: close")
    assert statuses(exchanged(served, post)) == [201]


def test_trailers_are_no_headers(served: Service, user: User) -> None:
    authorization = f"Authorization: {user.headers['Authorization']}\r\n".encode()
    head = posted(user, "Transfer-Encoding: chunked", "Connection: close", body=b"")
    trailers = b"X-Request-ID: trailer\r\n" + authorization
    body = CHUNKED.removesuffix(b"\r\n") + trailers + b"\r\n"
    (accepted,) = exchanged(served, head + body)
    assert accepted.status == 201
    assert accepted.headers["x-request-id"] != "trailer"
    (refused,) = exchanged(served, head.replace(authorization, b"") + body)
    assert refused.status == 401


# --- one request after the other ---


def test_segments_may_be_cut_anywhere(served: Service, user: User) -> None:
    task = f"{user.path}/{user.create()['id']}"
    chunked = ["Transfer-Encoding: chunked"]
    upgrade = ["Connection: Upgrade", "Upgrade: h2c", "Content-Length: 2"]
    requests = [
        b"\r\n" + request(user, "PUT", task, *chunked, body=CHUNKED),
        request(user, "PUT", task, *upgrade, body=b"{}") + b"\r\n\r\n",
        request(user, "PUT", task, *chunked, body=b"2\r\n{}\r\n0;a=b\r\nA: b\r\n\r\n"),
        request(user, "PUT", task, *chunked, body=b"6\r\n\r\n{}\r\n\r\n0\r\n\r\n"),
        request(user, "GET", "/x"),
        request(user, "GET", task, "Connection: close"),
    ]
    stream = b"".join(requests)
    expected = [200, 200, 200, 200, 404, 200]
    assert statuses(exchanged(served, *(stream[n : n + 1] for n in range(len(stream))))) == expected
    ends = [match.end() for match in re.finditer(b"\r\n\r\n|{}", stream)]
    for cut in sorted({end + shift for end in ends for shift in range(-5, 3)}):
        with connected_to(served) as connection:
            connection.sendall(stream[:cut])
            time.sleep(0.001)  # usually enough to make two segments of it
            connection.sendall(stream[cut:])
            answers = Raw(connection).answers()
        assert statuses(answers) == expected, cut


def test_pipelined_requests_are_answered_in_order(served: Service, user: User) -> None:
    paths = [f"{user.path}/{-number}" for number in range(1, 300)]
    stream = b"".join(request(user, "GET", path) for path in paths)
    answers = exchanged(served, stream + request(user, "GET", "/x", "Connection: close"))
    details = [f"Task with id {-number} not found" for number in range(1, 300)]
    assert [json.loads(answer.body)["detail"] for answer in answers] == [*details, "Not found"]


@pytest.mark.parametrize("stray", [b"x", b"\x00", b"HTTP/1.1 200 OK\r\n\r\n", b"\xff" * 10_000])
def test_stray_bytes_do_not_replace_an_answer(served: Service, user: User, stray: bytes) -> None:
    length = f"Content-Length: {len(TASK)}"
    created, refused = exchanged(served, posted(user, length) + stray)
    assert created.status == 201
    assert "connection" not in created.headers
    assert_refused(refused, 400, "VALIDATION_ERROR", served)
    assert user.list() == [json.loads(created.body)]


def test_a_body_that_breaks_off_is_not_stored(served: Service, user: User) -> None:
    head = posted(user, "Transfer-Encoding: chunked", body=CHUNKED[:-5])
    with connected_to(served) as connection:
        connection.sendall(head)
        time.sleep(0.1)  # the app waits for the rest
        connection.sendall(b"xyz\r\n")
        (answer,) = Raw(connection).answers()
    assert_refused(answer, 400, "VALIDATION_ERROR", served)
    assert json.loads(answer.body) == INVALID
    assert user.list() == []


# --- half-closed clients ---


def test_a_half_closed_client_gets_its_answers(served: Service, user: User) -> None:
    length = f"Content-Length: {len(TASK)}"
    with connected_to(served) as connection:
        connection.sendall(posted(user, length) * 3 + request(user, "GET", user.path))
        connection.shutdown(socket.SHUT_WR)
        answers = Raw(connection).answers()
    assert statuses(answers) == [201, 201, 201, 200]
    assert len(json.loads(answers[3].body)["tasks"]) == 3


@pytest.mark.parametrize("cut", [1, 20, 70, -1])
def test_a_half_closed_client_is_told_what_is_missing(
    served: Service, user: User, cut: int
) -> None:
    with connected_to(served) as connection:
        connection.sendall(posted(user, f"Content-Length: {len(TASK)}")[:cut])
        connection.shutdown(socket.SHUT_WR)
        (answer,) = Raw(connection).answers()
    assert_refused(answer, 400, "VALIDATION_ERROR", served)
    assert json.loads(answer.body)["detail"] == "Request is incomplete"
    assert user.list() == []
