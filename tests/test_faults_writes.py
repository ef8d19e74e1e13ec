"""No write is executed twice, and no request that was given up costs the database anything."""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any

import pytest
from sqlalchemy import make_url

from support.load import COUNT_TOGGLES, writers
from support.network import network_to
from support.postgres import FragileServer, connected, fragile_server
from support.service import environment, running, wait_for

pytestmark = pytest.mark.faults

Sized = Callable[[int, int], int]
Record = Callable[[str, object], None]
MAIN = ("main.py",)
POOL_SIZE = 5
END_WRITES = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE state = 'active' AND query ~ 'INSERT|UPDATE' AND pid <> pg_backend_pid()"
)
OTHER_BACKENDS = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


@contextmanager
def requests_at(rate: int, send: Callable[[], object]) -> Iterator[None]:
    """Call `send` in threads of their own, as often in a second, as long as the context lasts."""
    stop = Event()

    def pace() -> None:
        with ThreadPoolExecutor(rate * 15) as threads:
            while not stop.wait(1 / rate):
                threads.submit(send)

    pacer = Thread(target=pace)
    pacer.start()
    try:
        yield
    finally:
        stop.set()
        pacer.join()


def test_a_write_whose_connection_is_ended_is_never_executed_twice(
    sized: Sized, record_property: Record
) -> None:
    """PostgreSQL logs durations between the commit and its answer, and checks for the end there."""
    ended = 0
    with (
        fragile_server(log_min_duration_statement="0") as server,
        running(environment(server.url, LOG_LEVEL="info"), program=MAIN) as service,
        connected(server.url) as cursor,
    ):
        cursor.execute(COUNT_TOGGLES)
        with writers(service) as clients:
            until = time.monotonic() + sized(6, 20)
            while time.monotonic() < until:
                cursor.execute(END_WRITES)
                ended += cursor.fetchone()[0]
        for client in clients:
            client.assert_nothing_lost(server.url)
        acknowledged = sum(len(client.acknowledged) for client in clients)
        failed = sum(len(client.uncertain) for client in clients)
    assert ended > 0
    assert failed > 0
    record_property(
        "Connections ended while they execute INSERT and UPDATE, durations logged",
        f"{ended} | {acknowledged:,} acknowledged tasks, 0 lost, 0 twice; {failed} answered 500 |"
        " at once",
    )


def test_a_locked_table_takes_no_more_connections_than_the_pool(
    sized: Sized, record_property: Record
) -> None:
    seconds = sized(14, 30)
    most = 0
    with (
        fragile_server() as server,
        running(environment(server.url, LOG_LEVEL="info"), program=MAIN) as service,
        connected(server.url) as cursor,
        connected(server.url) as locker,
    ):
        user = service.user()
        assert user.call("GET").status_code == 200
        locker.execute("BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
        with requests_at(20, lambda: user.call("GET")):
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                cursor.execute(OTHER_BACKENDS)
                most = max(most, cursor.fetchone()[0])
                time.sleep(0.1)
            locker.execute("ROLLBACK")
        assert user.call("GET").status_code == 200
    assert POOL_SIZE < most <= POOL_SIZE + 3  # the locker is one of them
    record_property(
        f"A table is locked for {seconds} s, 20 requests/s",
        f"1 | at most {most} connections with a pool of {POOL_SIZE} | at once",
    )


def test_requests_that_were_given_up_leave_no_connecting_behind(
    sized: Sized, record_property: Record
) -> None:
    seconds = sized(12, 90)
    with (
        fragile_server(log_connections="on") as server,
        running(environment(server.url, LOG_LEVEL="info"), program=MAIN) as service,
    ):
        user = service.user()
        succeeded: list[int] = []

        def read() -> None:
            if user.call("GET").status_code == 200:
                succeeded.append(200)

        read()
        with requests_at(sized(40, 100), read):
            with server.frozen():
                time.sleep(seconds)
                before = server.log.stat().st_size
                thawed = datetime.now(UTC)
            answered = len(succeeded)
            wait_for(lambda: len(succeeded) > answered)
        # By the service's log: this client has thousands of requests to give up first.
        logged = re.findall(r"^\[(\S+)\].*\[200 in", service.output(), re.MULTILINE)
        recovery = min(
            moment for each in logged if (moment := datetime.fromisoformat(each)) > thawed
        )
        with server.log.open() as log:
            log.seek(before)
            connects = len(re.findall("connection received", log.read()))
    # Those that were under way when the time to connect was over are still in the kernel's queue.
    queued = (POOL_SIZE + 2) * (seconds // 5 + 1)
    assert connects < 50 + queued
    record_property(
        f"PostgreSQL is frozen for {seconds} s, then goes on",
        f"1 | {connects} connects afterwards, {queued} of them may have been queued |"
        f" {(recovery - thawed).total_seconds():.1f} s",
    )


@contextmanager
def old_and_new() -> Iterator[tuple[FragileServer, FragileServer]]:
    """Two servers, of which the second has the schema too."""
    with fragile_server() as old, fragile_server() as new:
        for server in (old, new):
            with running(environment(server.url), program=MAIN):
                pass
        yield old, new


def test_a_leader_that_has_become_read_only_is_left(record_property: Record) -> None:
    """After a failover the pool's connections may still lead to the old leader."""
    with old_and_new() as (old, new), network_to(old.port) as network:
        with connected(new.url) as cursor:
            cursor.execute("ALTER USER postgres PASSWORD %s", [old.password])
        url = make_url(old.url).set(port=network.port).render_as_string(hide_password=False)
        with running(environment(url, LOG_LEVEL="info"), program=MAIN) as service:
            user = service.user()
            with ThreadPoolExecutor(POOL_SIZE) as threads:
                list(threads.map(lambda _: user.call("GET"), range(20)))
            set_read_only(old)
            assert service.client.get("/health").status_code == 503
            network.lead_to(new.port)
            assert [user.call("POST", json={"title": "x"}).status_code for _ in range(20)] == [
                201
            ] * 20
            assert service.client.get("/health").status_code == 200
    record_property(
        "The leader has become read-only, and the name leads to a new one",
        "1 | 0 of 20 writes failed; /health is 503 before | at once",
    )


def set_read_only(server: FragileServer) -> None:
    with connected(server.url) as cursor:
        cursor.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        cursor.execute("SELECT pg_reload_conf()")

    def is_read_only() -> Any:  # noqa: ANN401
        with connected(server.url) as cursor:
            cursor.execute("SHOW default_transaction_read_only")
            return cursor.fetchone()[0] == "on"

    wait_for(is_read_only)
