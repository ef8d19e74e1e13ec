"""What uvicorn alone would not answer well: what is no HTTP, too long, or there at the end."""

import http.client
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import pytest

from support.service import (
    PATIENCE,
    Service,
    assert_clean_log,
    environment,
    patient,
    running,
    wait_for,
)

MEBIBYTE = 1024 * 1024
HEAD = b"POST /api/someone/tasks HTTP/1.1\r\nHost: x\r\n"
TOO_LARGE = (
    431,
    b'{"detail":"Request headers must be at most 64 KiB","code":"REQUEST_HEADER_FIELDS_TOO_LARGE"}',
)


@pytest.fixture(scope="module")
def served(database_url: str) -> Iterator[Service]:
    """The service as `python main.py` serves it."""
    program = patient("protocol.RECEIVE_TIMEOUT", "protocol.LINGER_TIME")
    with running(environment(database_url), program=program) as service:
        yield service
        output = service.output()
    assert_clean_log(output)


@contextmanager
def connected_to(service: Service) -> Iterator[socket.socket]:
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=PATIENCE) as connection:
        yield connection


def answer(connection: socket.socket) -> tuple[int, bytes]:
    with http.client.HTTPResponse(connection) as response:
        response.begin()
        assert response.getheader("content-type") == "application/json"
        return response.status, response.read()


@pytest.mark.parametrize("content", [b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET\r\n\r\n"])
def test_what_is_no_http_gets_the_common_body(served: Service, content: bytes) -> None:
    with connected_to(served) as connection:
        connection.sendall(content)
        body = b'{"detail":"Invalid HTTP request","code":"VALIDATION_ERROR"}'
        assert answer(connection) == (400, body)
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "headers",
    [
        b"X-Long: " + MEBIBYTE * b"x",
        MEBIBYTE // 8 * b"X: 1234\r\n",
        b"Authorization: Bearer " + MEBIBYTE * b"e",
    ],
)
def test_headers_of_a_mebibyte_are_refused(served: Service, headers: bytes) -> None:
    with connected_to(served) as connection:
        connection.sendall(HEAD + headers + b"\r\n\r\n")
        assert answer(connection) == TOO_LARGE
        assert connection.recv(1) == b""


@pytest.mark.parametrize("rest", [b"X-Trailer: " + MEBIBYTE * b"x", MEBIBYTE // 8 * b"X: 1234\r\n"])
def test_trailers_have_the_limit_of_headers(served: Service, rest: bytes) -> None:
    with connected_to(served) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
        # It has its answer; the connection ends instead of a second one.
        assert answer(connection)[0] == 401
        with suppress(ConnectionError):
            connection.sendall(rest)
        assert connection.recv(1) == b""


def test_a_web_socket_is_no_endpoint(served: Service) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    response = served.client.get("/api/someone/tasks", headers=upgrade)
    assert response.status_code == 401


@pytest.mark.slow
def test_an_idle_connection_stays_open(served: Service) -> None:
    """Uvicorn alone closes it after five seconds, when many clients still use theirs."""
    with connected_to(served) as connection:
        for pause in (6, 0):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert answer(connection)[0] == 200
            time.sleep(pause)


def test_at_the_end_open_connections_get_their_last_answer(database_url: str) -> None:
    program = patient("protocol.RECEIVE_TIMEOUT", "protocol.DRAIN_TIME")
    with (
        running(environment(database_url), program=program) as service,
        connected_to(service) as idle,
        connected_to(service) as half,
        ThreadPoolExecutor(1) as thread,
    ):
        service.client.close()  # its own connection would be waited for
        half.sendall(HEAD)
        exit_code = thread.submit(service.stop)
        wait_for(lambda: "Shutting down" in service.output())
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        half.sendall(b"\r\n")
        assert (answer(idle)[0], answer(half)[0]) == (200, 401)
        assert idle.recv(1) == half.recv(1) == b""
        assert exit_code.result() in {0, -15}
