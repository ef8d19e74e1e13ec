"""What happens to the database costs no acknowledged write, and heals by itself."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import partial

import httpx
import psutil
import pytest
from sqlalchemy import make_url

from support.load import COUNT_TOGGLES, LATE, Burst, all_calls, summary, writers
from support.network import network_to
from support.postgres import FragileServer, connected, fragile_server, waiting_for_locks
from support.service import Service, environment, patient, running, wait_for

pytestmark = pytest.mark.faults

Sized = Callable[[int, int], int]
Record = Callable[[str, object], None]
Outage = Callable[[], AbstractContextManager[None]]
POOL_SIZE = 5
MAIN = ("main.py",)
END_CONNECTIONS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


@pytest.fixture(scope="module")
def server() -> Iterator[FragileServer]:
    with fragile_server() as server:
        yield server


@pytest.fixture(scope="module")
def fragile(server: FragileServer) -> Iterator[Service]:
    """The service on a database of its own, whose toggles are counted."""
    with running(environment(server.url, LOG_LEVEL="info"), program=MAIN) as service:
        with connected(server.url) as cursor:
            cursor.execute(COUNT_TOGGLES)
        yield service


def healthy(service: Service) -> bool:
    return service.client.get("/health").status_code == 200


def at_once(service: Service, number: int) -> list[httpx.Response]:
    """Read with as many clients at the same time."""
    user = service.user()
    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(lambda _: user.call("GET"), range(number)))


def test_postgresql_restarts_under_load(
    server: FragileServer, fragile: Service, sized: Sized, record_property: Record
) -> None:
    outages = []
    with writers(fragile) as clients:
        for number in range(sized(4, 20)):
            time.sleep(random.uniform(0.3, 1))
            ended = time.monotonic()
            server.end(signal.SIGQUIT if number % 2 else signal.SIGINT)
            server.start()
            outages.append((ended, time.monotonic()))
        time.sleep(1)
    calls = all_calls(clients)
    failed = [call for call in calls if call.status not in {200, 201}]
    assert {call.status for call in failed} <= {500}
    for call in failed:
        assert any(call.started <= up and call.ended >= down for down, up in outages), call
    for client in clients:
        client.assert_nothing_lost(server.url)
    recoveries = [
        min(call.ended for call in calls if call.status == 201 and call.started > up) - up
        for _, up in outages
    ]
    acknowledged = sum(call.status in {200, 201} for call in calls)
    record_property(
        "PostgreSQL restarts, fast and immediate, under 16 clients",
        f"{len(outages)} | {acknowledged:,} acknowledged writes, 0 lost;"
        f" {len(failed)} requests of the outages failed (500) | {summary(recoveries)}",
    )


def test_the_first_request_on_every_connection_after_a_restart_succeeds(
    server: FragileServer, fragile: Service, sized: Sized, record_property: Record
) -> None:
    times = sized(4, 20)
    for number in range(times):
        assert {answer.status_code for answer in at_once(fragile, POOL_SIZE)} == {200}
        server.end(signal.SIGQUIT if number % 2 else signal.SIGINT)
        server.start()
        assert {answer.status_code for answer in at_once(fragile, 4 * POOL_SIZE)} == {200}
        assert healthy(fragile)
    record_property(
        "PostgreSQL restarts while the service is idle",
        f"{times} | 0 of {times * 4 * POOL_SIZE} requests failed | at once",
    )


def test_connections_that_end_while_idle_cost_no_request(
    server: FragileServer, fragile: Service, sized: Sized, record_property: Record
) -> None:
    times = sized(25, 100)
    statuses: list[int] = []
    with connected(server.url) as cursor:
        for _ in range(times):
            assert {answer.status_code for answer in at_once(fragile, POOL_SIZE)} == {200}
            task = fragile.user().create()
            cursor.execute(END_CONNECTIONS)
            assert cursor.fetchone()[0] > 0
            # At once, while PostgreSQL is still ending them.
            user = fragile.user(task["user_id"])
            toggle = partial(user.call, "PATCH", f"/{task['id']}/complete")
            with ThreadPoolExecutor(POOL_SIZE) as threads:
                toggles = [threads.submit(toggle) for _ in range(POOL_SIZE)]
                statuses += [call.result().status_code for call in toggles]
            assert {answer.status_code for answer in at_once(fragile, POOL_SIZE)} == {200}
            assert healthy(fragile)
            cursor.execute("SELECT count(*) FROM toggles WHERE task_id = %s", [task["id"]])
            assert cursor.fetchone()[0] <= POOL_SIZE
    # A toggle whose statement was sent on an ending connection is not sent again.
    assert set(statuses) <= {200, 500}
    record_property(
        "All connections ended by PostgreSQL while idle",
        f"{times} | {statuses.count(500)} of {len(statuses)} toggles failed, none counted twice;"
        f" 0 of {times * POOL_SIZE} reads failed | at once",
    )


def test_a_connection_that_ends_just_before_its_statement(
    server: FragileServer, fragile: Service, sized: Sized, record_property: Record
) -> None:
    """The statement is sent, but PostgreSQL ends the connection before it reads it."""
    times = sized(2, 20)
    refused = 0
    with connected(server.url) as cursor:
        for _ in range(times):
            for method, suffix in (("PATCH", "/complete"), ("GET", "")):
                user = fragile.user()
                task_id = user.create()["id"]
                assert {answer.status_code for answer in at_once(fragile, POOL_SIZE)} == {200}
                cursor.execute(
                    "SELECT pid FROM pg_stat_activity"
                    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                )
                backends = [psutil.Process(pid) for (pid,) in cursor.fetchall()]
                for backend in backends:
                    backend.suspend()
                    backend.terminate()
                with ThreadPoolExecutor(POOL_SIZE) as threads:
                    call = partial(user.call, method, f"/{task_id}{suffix}")
                    calls = [threads.submit(call) for _ in range(POOL_SIZE)]
                    time.sleep(0.3)
                    for backend in backends:
                        backend.resume()
                    statuses = [call.result().status_code for call in calls]
                cursor.execute("SELECT count(*) FROM toggles WHERE task_id = %s", [task_id])
                if method == "GET":
                    assert set(statuses) == {200}
                else:
                    # Those that found no connection had a new one.
                    assert cursor.fetchone() == (statuses.count(200),)
                    assert set(statuses) <= {200, 500}
                    refused += statuses.count(500)
    assert refused > 0
    record_property(
        "Connections ended by PostgreSQL when their statement was already sent",
        f"{times} | reads: 0 of {times * POOL_SIZE} failed; toggles: {refused} of"
        f" {times * POOL_SIZE} answered 500, and none of these executed | at once",
    )


def test_a_database_that_is_down_at_start(
    server: FragileServer, sized: Sized, record_property: Record
) -> None:
    recoveries = []
    for number in range(sized(2, 20)):
        with connected(server.url) as cursor:
            cursor.execute(f"CREATE DATABASE late_{number}")
        url = make_url(server.url).set(database=f"late_{number}")
        server.end(signal.SIGINT)
        env = environment(url.render_as_string(hide_password=False))
        with running(env, program=MAIN) as service:
            assert not healthy(service)
            assert service.user().call("POST", json={"title": "x"}).status_code == 500
            server.start()
            recoveries.append(recovers(service))
            assert recoveries[-1] < 5 + LATE
    record_property(
        "PostgreSQL is down when the service starts",
        f"{len(recoveries)} | nothing | {summary(recoveries)}",
    )


def bounded_while(
    service: Service, limit: int, outage: Callable[[], AbstractContextManager[None]]
) -> tuple[float, list[float]]:
    """Send 100 requests into an outage; return how long they and the health checks took to fail."""
    process = psutil.Process(service.process.pid)
    assert {answer.status_code for answer in at_once(service, 20)} == {200}
    threads_before, memory_before = process.num_threads(), process.memory_info().rss
    checks = []
    with outage():
        sent = time.monotonic()
        burst = Burst(service, 100)
        while burst.answered() < 100:
            started = time.monotonic()
            assert service.client.get("/health").status_code == 503
            checks.append(time.monotonic() - started)
            assert started - sent < limit + LATE
        failed = time.monotonic() - sent
        assert burst.statuses() == {500}
        assert process.num_threads() <= threads_before + POOL_SIZE + 2
        assert process.memory_info().rss - memory_before < 64 * 2**20
    assert max(checks) < 3 + LATE
    return failed, checks


def recovers(service: Service) -> float:
    """Return how long it takes until everything works again."""
    started = time.monotonic()
    wait_for(lambda: healthy(service) and service.user().call("GET").status_code == 200)
    assert {answer.status_code for answer in at_once(service, 4 * POOL_SIZE)} == {200}
    return time.monotonic() - started


def outages(service: Service, limit: int, outage: Outage, times: int) -> str:
    """Let the database be away again and again, and return what was measured."""
    failures, checks, recoveries = [], [], []
    for _ in range(times):
        failed, more_checks = bounded_while(service, limit, outage)
        failures.append(failed)
        checks += more_checks
        recoveries.append(recovers(service))
    return (
        f"{times} | all 500 within {max(failures):.1f} s;"
        f" /health is 503 within {max(checks):.1f} s | {summary(recoveries)}"
    )


def test_a_frozen_database(server: FragileServer, sized: Sized, record_property: Record) -> None:
    limit = sized(4, 10)
    env = environment(server.url, LOG_LEVEL="info", DB_TIMEOUT=str(limit))
    with running(env, program=MAIN) as service:
        measured = outages(service, limit, server.frozen, sized(1, 5))
    record_property("PostgreSQL hangs (SIGSTOP), 100 requests in flight", measured)


def test_a_network_that_swallows_everything(
    server: FragileServer, sized: Sized, record_property: Record
) -> None:
    limit = sized(4, 10)
    with network_to(server.port) as network, ExitStack() as stack:
        url = make_url(server.url).set(port=network.port).render_as_string(hide_password=False)
        env = environment(url, LOG_LEVEL="info", DB_TIMEOUT=str(limit))
        service = stack.enter_context(running(env, program=MAIN))
        measured = outages(service, limit, network.swallowing, sized(1, 5))
    record_property("The network swallows packets, 100 requests in flight", measured)


def test_connections_that_are_dead_without_a_word(
    server: FragileServer, sized: Sized, record_property: Record
) -> None:
    """A failover or a firewall that forgot them: nobody ever answers on them again."""
    limit = sized(3, 10)
    failures, recoveries = [], []
    with network_to(server.port) as network, ExitStack() as stack:
        url = make_url(server.url).set(port=network.port).render_as_string(hide_password=False)
        env = environment(url, LOG_LEVEL="info", DB_TIMEOUT=str(limit))
        service = stack.enter_context(running(env, program=MAIN))
        for _ in range(sized(1, 5)):
            assert {answer.status_code for answer in at_once(service, 20)} == {200}
            assert healthy(service)
            network.strand()
            started = time.monotonic()
            assert {answer.status_code for answer in at_once(service, POOL_SIZE)} == {500}
            failures.append(time.monotonic() - started)
            assert failures[-1] < limit + LATE
            recoveries.append(recovers(service))
            assert recoveries[-1] < 3 + LATE
    record_property(
        "Connections are dead, and nobody says so",
        f"{len(recoveries)} | one request on each, 500 within {max(failures):.1f} s |"
        f" {summary(recoveries)}",
    )


@pytest.mark.parametrize("released_in_time", [True, False])
def test_a_pool_exhausted_by_slow_statements(
    server: FragileServer, sized: Sized, record_property: Record, *, released_in_time: bool
) -> None:
    limit = 60 if released_in_time else sized(4, 10)
    env = environment(server.url, LOG_LEVEL="info", DB_TIMEOUT=str(limit))
    held = 2 if released_in_time else limit + LATE
    recoveries, checks = [], []
    with running(env, program=patient("database.HEALTH_TIMEOUT")) as service:
        for _ in range(sized(1, 5)):
            with connected(server.url) as cursor:
                cursor.execute("BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
                locked = time.monotonic()
                burst = Burst(service, 200)
                while burst.answered() < 200 and time.monotonic() < locked + held:
                    started = time.monotonic()
                    assert healthy(service)
                    checks.append(time.monotonic() - started)
                    time.sleep(0.05)
                assert burst.answered() == (0 if released_in_time else 200)
                if not released_in_time:  # PostgreSQL has given them up too
                    wait_for(lambda: waiting_for_locks(cursor) == 0)
                cursor.execute("ROLLBACK")
                released = time.monotonic()
                assert burst.statuses() == ({200, 201} if released_in_time else {500})
                assert {answer.status_code for answer in at_once(service, 20)} == {200}
                recoveries.append(time.monotonic() - released)
    assert max(checks) < 1 + LATE
    record_property(
        f"Pool exhausted, 200 clients, lock {'released' if released_in_time else 'kept'}",
        f"{len(recoveries)} | all {'answered' if released_in_time else 500};"
        f" /health is 200 within {max(checks):.1f} s | {summary(recoveries)}",
    )
