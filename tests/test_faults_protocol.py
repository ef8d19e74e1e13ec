"""Clients that abuse the protocol cost bounded memory and nobody else's time."""

import select
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import psutil
import pytest

from protocol import MAX_LINGER_TIME, WRITE_TIMEOUT
from support.load import MEBIBYTE, Watch
from support.postgres import connected
from support.raw import Raw, connected_to, request
from support.service import Service, environment, running, wait_for

pytestmark = pytest.mark.faults

Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def abused(database_url: str) -> Iterator[Service]:
    env = environment(database_url, LOG_LEVEL="info", DB_TIMEOUT="120")
    with running(env, program=("main.py",)) as service:
        service.user().create()
        yield service


def send_until_closed(connection: socket.socket, content: bytes) -> None:
    with suppress(OSError):
        while True:
            connection.sendall(content)


def connections_of(service: Service) -> int:
    return sum(
        each.status == psutil.CONN_ESTABLISHED
        for each in psutil.Process(service.process.pid).net_connections("tcp")
        if each.laddr.port == int(service.url.rpartition(":")[2])
    )


@pytest.mark.parametrize("reads", [False, True])
def test_29_000_pipelined_requests(
    abused: Service, record_property: Record, *, reads: bool
) -> None:
    flood = b"GET / HTTP/1.1\r\n\r\n" * 29_000
    watch = Watch(abused)
    with ThreadPoolExecutor(60) as threads, ExitStack() as stack:
        for _ in range(30):
            connection = stack.enter_context(connected_to(abused))
            threads.submit(send_until_closed, connection, flood)
            if reads:
                threads.submit(Raw(connection).answers)
            stack.callback(connection.shutdown, socket.SHUT_RDWR)
        until = time.monotonic() + 10
        watch.until(lambda: time.monotonic() > until)
    how = "read" if reads else "not read"
    record_property(
        f"30 clients pipeline 29,000 requests each, answers {how}", watch.assert_bounded(50)
    )


def test_one_byte_chunks_after_a_401(abused: Service, record_property: Record) -> None:
    head = b"POST /api/someone/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    watch = Watch(abused)
    with ThreadPoolExecutor(4) as threads, ExitStack() as stack:
        floods = []
        for _ in range(4):
            connection = stack.enter_context(connected_to(abused))
            connection.sendall(head)
            floods.append(threads.submit(send_until_closed, connection, b"1\r\nx\r\n" * 10_000))
        started = time.monotonic()
        watch.until(lambda: all(flood.done() for flood in floods))
        seconds = time.monotonic() - started
    record_property(
        "4 clients send one-byte chunks after their 401, without end",
        f"cut off after {seconds:.0f} s (of {MAX_LINGER_TIME:.0f}) | {watch.assert_bounded(32)}",
    )


@pytest.mark.parametrize("letters", [b"eyJ", b"eyJ.", b"%41", b"/", b"[", b"a/tasks/"])
def test_paths_of_64_kb(abused: Service, record_property: Record, letters: bytes) -> None:
    path = b"/api/" + letters * (60_000 // len(letters))
    watch = Watch(abused)
    with ThreadPoolExecutor(10) as threads, ExitStack() as stack:
        connections = [stack.enter_context(connected_to(abused)) for _ in range(10)]
        requests = b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path * 19
        requests += b"GET %b HTTP/1.1\r\nConnection: close\r\n\r\n" % path
        calls = [threads.submit(connection.sendall, requests) for connection in connections]
        watch.until(lambda: all(call.done() for call in calls))
        answers = [Raw(connection).answers() for connection in connections]
    assert {answer.status for each in answers for answer in each} <= {401, 404}
    assert sum(len(each) for each in answers) == 200
    record_property(
        f"200 paths of 60 KB of `{letters.decode()}`", f"404 | {watch.assert_bounded(32)}"
    )


def test_lists_that_are_not_read(
    abused: Service, database_url: str, record_property: Record
) -> None:
    user = abused.user()
    with connected(database_url) as cursor:
        cursor.execute(
            "INSERT INTO tasks (user_id, title, description)"
            " SELECT %s, 'x', repeat('x', 1000) FROM generate_series(1, 20000)",
            [user.id],
        )
    # What lists that are read leave behind: the allocator's pools.
    with ThreadPoolExecutor(5) as threads:
        assert {len(tasks) for tasks in threads.map(lambda _: user.list(), range(10))} == {20_000}
    watch = Watch(abused)
    established = connections_of(abused)
    with ExitStack() as stack:
        connections = [stack.enter_context(connected_to(abused)) for _ in range(20)]
        for connection in connections:
            connection.sendall(request(user, "GET", user.path))
        # Making the lists takes its time; what is measured is to keep them.
        wait_for(lambda: len(select.select(connections, [], [], 0)[0]) == 20)
        started = time.monotonic()
        watch.until(lambda: connections_of(abused) <= established)
        seconds = time.monotonic() - started
    assert seconds >= WRITE_TIMEOUT - 1
    wait_for(lambda: watch.process.memory_info().rss < watch.before + 100 * MEBIBYTE)
    kept = (watch.process.memory_info().rss - watch.before) / MEBIBYTE
    record_property(
        "20 lists of 24 MB that nobody reads",
        f"cut off after {seconds:.0f} s, {kept:.0f} MiB more memory then"
        f" | {watch.assert_bounded(700)}",
    )
