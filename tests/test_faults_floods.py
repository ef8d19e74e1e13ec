"""Clients that send far too much, or nothing, cost bounded memory and nobody else's time."""

import resource
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse
from urllib.parse import urlsplit

import pytest

from support.load import MEBIBYTE, Watch
from support.service import PATIENCE, Service, environment, running

pytestmark = pytest.mark.faults

Sized = Callable[[int, int], int]
Record = Callable[[str, object], None]
RECEIVE_TIMEOUT = 15


@pytest.fixture(scope="module", autouse=True)
def many_files() -> Iterator[None]:
    """Let the test itself hold a thousand connections."""
    with at_most_files(8192):
        yield


@contextmanager
def at_most_files(number: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="module")
def flooded(database_url: str) -> Iterator[Service]:
    """The service, started where the usual limit of open files is low."""
    env = environment(database_url, LOG_LEVEL="info")
    with ExitStack() as stack:
        with at_most_files(256):
            service = stack.enter_context(running(env, program=("main.py",)))
        service.user().create()
        yield service


def connect(service: Service) -> socket.socket:
    address = urlsplit(service.url)
    return socket.create_connection((address.hostname, address.port), timeout=PATIENCE)


def status(connection: socket.socket) -> int:
    with HTTPResponse(connection) as response:
        response.begin()
        response.read()
        return response.status


def sent(service: Service, head: str, parts: Iterator[bytes]) -> int:
    """Send a request, whole if the server takes it, and return its answer's status."""
    with connect(service) as connection:
        connection.sendall(f"{head}\r\n".encode())
        for part in parts:
            connection.sendall(part)
        return status(connection)


def all_done(calls: list[Future[int]]) -> Callable[[], bool]:
    return lambda: all(call.done() for call in calls)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("with_token", [False, True])
def test_bodies_of_50_mb(
    flooded: Service, record_property: Record, *, chunked: bool, with_token: bool
) -> None:
    user = flooded.user()
    part = b"x" * MEBIBYTE
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {50 * MEBIBYTE}"
    head = f"POST {user.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{length}\r\n"
    if with_token:
        head += f"Authorization: {user.headers['Authorization']}\r\n"
    watch = Watch(flooded)

    def parts() -> Iterator[bytes]:
        for _ in range(50):
            yield b"%x\r\n%s\r\n" % (len(part), part) if chunked else part
        if chunked:
            yield b"0\r\n\r\n"

    with ThreadPoolExecutor(20) as threads:
        calls = [threads.submit(sent, flooded, head, parts()) for _ in range(20)]
        watch.until(all_done(calls))
    expected = 413 if with_token else 401
    assert {call.result() for call in calls} == {expected}
    record_property(
        f"20 bodies of 50 MB at once, {'chunked' if chunked else 'with a length'},"
        f" {'with' if with_token else 'without'} a token",
        f"all {expected} | {watch.assert_bounded(48)}",
    )


def test_headers_of_1_mb(flooded: Service, record_property: Record) -> None:
    watch = Watch(flooded)
    head = "GET /health HTTP/1.1\r\nHost: x"
    with ThreadPoolExecutor(20) as threads:
        calls = [
            threads.submit(sent, flooded, head, iter([b"X: " + b"x" * MEBIBYTE + b"\r\n\r\n"]))
            for _ in range(20)
        ]
        watch.until(all_done(calls))
    assert {call.result() for call in calls} == {431}
    record_property("20 headers of 1 MB at once", f"all 431 | {watch.assert_bounded(48)}")


def test_json_5000_levels_deep(flooded: Service, record_property: Record) -> None:
    user, watch = flooded.user(), Watch(flooded)
    bodies = [b"[" * 5000 + b"]" * 5000, b'{"title":' * 5000 + b"1" + b"}" * 5000]
    headers = {"Content-Type": "application/json"}
    with ThreadPoolExecutor(20) as threads:
        calls = [
            threads.submit(lambda body: user.call("POST", content=body, headers=headers), body)
            for body in bodies * 10
        ]
        watch.until(lambda: all(call.done() for call in calls))
    assert {call.result().status_code for call in calls} == {400}
    record_property("20 bodies of 5,000 JSON levels", f"all 400 | {watch.assert_bounded(32)}")


def test_500_idle_and_500_half_open_connections(flooded: Service, record_property: Record) -> None:
    user, watch = flooded.user(), Watch(flooded)
    half_a_body = (
        f"POST {user.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n"
        f"Authorization: {user.headers['Authorization']}\r\n\r\n{{"
    )
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(flooded)) for _ in range(500)]
        half = [stack.enter_context(connect(flooded)) for _ in range(500)]
        for number, connection in enumerate(half):
            # Some stop in the headers, some in the body.
            connection.sendall(half_a_body.encode()[: 40 if number % 2 else None])
        opened = time.monotonic()
        watch.until(lambda: time.monotonic() > opened + RECEIVE_TIMEOUT + 1)
        assert {status(connection) for connection in half} == {408}
        assert {connection.recv(1) for connection in idle} == {b""}
    record_property(
        "500 idle and 500 half-open connections",
        f"closed after {RECEIVE_TIMEOUT} s, the half-open with 408 | {watch.assert_bounded(48)}",
    )
