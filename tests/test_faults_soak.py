"""Everything at once, for a while: nothing is lost, doubled, leaked or shown to another user."""

import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from urllib.parse import urlsplit

import psutil
import pytest

from support.load import COUNT_TOGGLES, all_calls, writers
from support.postgres import FragileServer, connected, fragile_server
from support.service import Service, User, environment, running, wait_for

pytestmark = pytest.mark.faults

Sized = Callable[[int, int], int]
Record = Callable[[str, object], None]
POOL_SIZE = 5
END_SOME = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND random() < 0.3"
)


@contextmanager
def repeated(*actions: Callable[[], object]) -> Iterator[None]:
    """Call each of them again and again, in a thread of its own."""
    stop = Event()

    def repeat(action: Callable[[], object]) -> None:
        while not stop.is_set():
            action()

    threads = [Thread(target=repeat, args=[action]) for action in actions]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def vanish(service: Service, user: User) -> None:
    """Send a part of a request or a whole one, and go away without reading the answer."""
    address = urlsplit(service.url)
    body = b'{"title": "vanished"}'
    request = (
        f"POST {user.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: {user.headers['Authorization']}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    with (
        suppress(OSError),
        socket.create_connection((address.hostname, address.port), 5) as connection,
    ):
        connection.sendall(request[: random.randrange(len(request) + 1)])
    time.sleep(0.02)


def disturb(server: FragileServer) -> None:
    """Do one of the things that happen to a database."""
    time.sleep(random.uniform(0.2, 1))
    with connected(server.url) as cursor:
        match random.choice(["end", "lock", "freeze", "vacuum"]):
            case "end":
                cursor.execute(END_SOME)
            case "lock":
                cursor.execute("BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
                time.sleep(random.uniform(0.1, 1.5))
                cursor.execute("ROLLBACK")
            case "freeze":
                with server.frozen():
                    time.sleep(random.uniform(0.1, 1.5))
            case "vacuum":
                cursor.execute("VACUUM FULL tasks")


def only_the_users_own(user: User) -> None:
    """Read with a user that has three tasks; an answer is theirs or an error."""
    response = user.call("GET")
    if response.status_code == 200:
        assert {task["user_id"] for task in response.json()["tasks"]} == {user.id}
        assert response.json()["count"] == 3
    else:
        assert response.status_code == 500


def backends(server: FragileServer) -> int:
    with connected(server.url) as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])


def test_a_soak(sized: Sized, record_property: Record) -> None:
    seconds = sized(30, 900)
    with (
        fragile_server(log_min_duration_statement="0", log_destination="csvlog") as server,
        running(
            environment(server.url, LOG_LEVEL="warning", DB_TIMEOUT="5"), program=("main.py",)
        ) as service,
    ):
        with connected(server.url) as cursor:
            cursor.execute(COUNT_TOGGLES)
        process = psutil.Process(service.process.pid)
        reader, vanisher = service.user(), service.user()
        for _ in range(3):
            reader.create()
        with writers(service, 4) as warm_up:
            time.sleep(3)
        memory, descriptors = process.memory_info().rss, process.num_fds()
        with (
            writers(service) as clients,
            repeated(
                lambda: vanish(service, vanisher),
                lambda: only_the_users_own(reader),
                lambda: service.client.get("/health"),
                lambda: disturb(server),
            ),
        ):
            time.sleep(seconds)
        for client in [*warm_up, *clients]:
            client.assert_nothing_lost(server.url)
        calls = all_calls(clients)
        assert {call.status for call in calls} <= {200, 201, 500}
        # What the clients left behind is closed, and the pool has no more than its size.
        wait_for(lambda: backends(server) <= POOL_SIZE + 1)
        # The writers and readers keep theirs; a thousand others have vanished.
        wait_for(lambda: process.num_fds() <= descriptors + 32)
        grown = process.memory_info().rss - memory
        assert grown < 48 * 2**20
        assert service.client.get("/health").status_code == 200
    acknowledged = sum(call.status in {200, 201} for call in calls)
    record_property(
        f"A soak of {seconds} s: writers, clients that vanish, ended backends, locks, freezes",
        f"1 | {acknowledged:,} acknowledged writes, 0 lost, 0 twice;"
        f" {len(calls) - acknowledged:,} answered 500; {grown / 2**20:.0f} MiB more memory |",
    )
