"""Behind a transaction pooler, a real PgBouncer, everything works as it does without."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import make_url

from support.load import COUNT_TOGGLES, LATE, all_calls, summary, writers
from support.pgbouncer import PgBouncer
from support.postgres import connected, new_database, passable_folder
from support.service import PROJECT, environment, running, wait_for

pytestmark = pytest.mark.pooler

Sized = Callable[[int, int], int]
Record = Callable[[str, object], None]
DB_TIMEOUT = 3
POOL_SIZE = 4
"""Connections of PgBouncer to a database: so many statements are in execution at a time."""
DIRECT_ONLY = {
    "tests/test_deployment_guide.py::test_a_dump_restores_every_task": "pg_dump and pg_restore set"
    " session variables, and a transaction pooler hands these to other clients",
    "tests/test_operation.py::test_a_database_that_is_not_ready_fails": "ALTER DATABASE changes"
    " new sessions, and a pooler keeps the old ones",
    "tests/test_operation.py::test_a_user_without_rights_fails": "the pooler knows no other user",
    **dict.fromkeys(
        [
            "tests/test_prepared.py::test_a_statement_is_prepared_once",
            "tests/test_prepared.py::test_a_plan_that_was_made_for_a_small_table_is_right_for_a_large_one",
        ],
        "behind a pooler, nothing is prepared",
    ),
    "tests/test_pool.py::test_a_connection_has_a_limit_for_all_statements": "other clients"
    " would have it, too",
    "tests/test_pool.py::test_a_lost_connection_leaves_its_descriptors_number_to_others": "the"
    " process id that a pooler tells is not the backend's",
}
"""Tests that a pooler cannot pass, and why."""
BESIDE = (
    *("auth", "config", "dev", "dev_commands", "interfaces", "jwks", "logs", "monitoring"),
    *("protocol", "protocol_limits", "rate_limit", "readme", "start", "telemetry"),
)
"""Test files that take half of the time, and whose subject is not the database: only `--full`."""


@pytest.fixture
def pooler() -> Iterator[PgBouncer]:
    with passable_folder() as folder:
        pooler = PgBouncer(folder, os.environ["TEST_DATABASE_URL"], POOL_SIZE)
        pooler.start()
        yield pooler
        pooler.kill()


def test_the_suite_passes_through_pgbouncer(
    pooler: PgBouncer, sized: Sized, record_property: Record
) -> None:
    beside = BESIDE[: sized(len(BESIDE), 0)]
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q"),
            *(f"--deselect={test}" for test in DIRECT_ONLY),
            *(f"--ignore=tests/test_{name}.py" for name in beside),
        ],
        cwd=PROJECT,
        env={**os.environ, "TEST_DATABASE_URL": pooler.url},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    record_property("The test suite through PgBouncer", run.stdout.splitlines()[-1])


def test_nothing_is_prepared_behind_the_pooler(pooler: PgBouncer) -> None:
    """The next statement may be for another server, which has not prepared it."""
    with new_database() as server_url:
        url = make_url(server_url).set(port=pooler.port).render_as_string(hide_password=False)
        with running(environment(url)) as service:
            user = service.user()
            task_id = user.create()["id"]
            for _ in range(3):
                assert user.call("PATCH", f"/{task_id}/complete").status_code == 200
            with connected(url) as cursor:  # PgBouncer gives it the server that was used last
                cursor.execute("SELECT name FROM pg_prepared_statements")
                assert cursor.fetchall() == []


@contextmanager
def closed(database: str) -> Iterator[None]:
    """End a database's connections and let it refuse new ones, as a server does that goes down."""
    with connected(os.environ["TEST_DATABASE_URL"]) as cursor:
        cursor.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database]
        )
        try:
            yield
        finally:
            cursor.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")


def test_a_failover_behind_the_pooler_fails_only_what_was_in_execution(
    pooler: PgBouncer, sized: Sized, record_property: Record
) -> None:
    times = sized(3, 20)
    with new_database() as server_url:
        url = make_url(server_url).set(port=pooler.port)
        env = environment(url.render_as_string(hide_password=False), LOG_LEVEL="info")
        with running(env, program=("main.py",)) as service:
            with connected(server_url) as cursor:
                cursor.execute(COUNT_TOGGLES)
            with writers(service) as clients:
                for _ in range(times):
                    wait_for(lambda: service.user().call("GET").status_code == 200)
                    with closed(str(url.database)):
                        time.sleep(1)
            service.user().create()
        for client in clients:
            client.assert_nothing_lost(server_url)
    calls = all_calls(clients)
    failed = sum(call.status not in {200, 201} for call in calls)
    assert failed <= times * POOL_SIZE
    longest = max(call.ended - call.started for call in calls)
    record_property(
        "PostgreSQL refuses everything for a second, behind PgBouncer, under 16 clients",
        f"{times} | {len(calls) - failed:,} acknowledged writes, 0 lost; {failed} requests failed,"
        f" those in execution | longest request {longest:.1f} s",
    )


@pytest.mark.parametrize("outage", ["killed", "frozen", "paused"])
def test_an_outage_of_the_pooler_heals(
    pooler: PgBouncer, sized: Sized, record_property: Record, outage: str
) -> None:
    times = sized(2, 20)
    recoveries = []
    with new_database() as server_url:
        url = make_url(server_url).set(port=pooler.port).render_as_string(hide_password=False)
        env = environment(url, LOG_LEVEL="info", DB_TIMEOUT=str(DB_TIMEOUT))
        with running(env, program=("main.py",)) as service:
            with connected(server_url) as cursor:
                cursor.execute(COUNT_TOGGLES)
            with writers(service) as clients:
                for _ in range(times):
                    time.sleep(0.5)
                    if outage == "killed":
                        pooler.kill()
                        time.sleep(0.5)
                        pooler.start()
                    else:
                        with getattr(pooler, outage)():
                            time.sleep(DB_TIMEOUT + 1)
                    healed = time.monotonic()
                    wait_for(lambda: service.client.get("/health").status_code == 200)
                    wait_for(lambda: service.user().call("GET").status_code == 200)
                    recoveries.append(time.monotonic() - healed)
        calls = all_calls(clients)
        assert {call.status for call in calls} <= {200, 201, 500}
        assert max(call.ended - call.started for call in calls) < DB_TIMEOUT + LATE
        for client in clients:
            client.assert_nothing_lost(server_url)
    acknowledged = sum(call.status in {200, 201} for call in calls)
    record_property(
        f"PgBouncer {outage} under 16 clients",
        f"{times} | {acknowledged:,} acknowledged writes, 0 lost | {summary(recoveries)}",
    )
