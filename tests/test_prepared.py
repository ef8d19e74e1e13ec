"""Statements on one task are prepared once on each connection, and executed whatever happens."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlmodel import Session

from idempotency import CREATE_ONCE
from pool import DRIVER, SessionPool
from prepared import NAME_LENGTH, Prepared
from queries import CREATE, DELETE, GET, TOGGLE, new_task, one_task, update_of
from statements import execute
from support.postgres import connected, new_database
from support.service import Service, environment, running

STATEMENTS = [
    CREATE,
    CREATE_ONCE,
    *(*GET, *TOGGLE, *DELETE),
    *(*update_of("title"), *update_of("title", "description"), *update_of("completed")),
]
PREPARED = "SELECT name FROM pg_prepared_statements ORDER BY 1"
CLEAR_ALL = "DEALLOCATE ALL"


@pytest.fixture
def own() -> Iterator[tuple[Service, str]]:
    """A service on a database of its own, and the database's URL."""
    with new_database() as url, running(environment(url)) as service:
        yield service, url


def in_session(url: str, work: Callable[[Session], Any]) -> Any:  # noqa: ANN401
    """Do some work, in one piece, on a connection of the service's own kind."""

    async def run() -> Any:  # noqa: ANN401
        pool = SessionPool(url, pool_size=1, time_limit=10)
        try:
            return await pool.run(work)
        finally:
            pool.close()

    return asyncio.run(run())


def names(session: Session) -> list[str]:
    """Return the names of what is prepared on the session's connection."""
    return [f'"{name}"' for (name,) in execute(session, PREPARED)]


def test_each_statement_has_a_name_that_postgresql_keeps_and_people_can_read() -> None:
    found = {statement.name for statement in STATEMENTS}
    assert len(found) == len(STATEMENTS)
    assert {len(name.strip('"').encode()) for name in found} == {NAME_LENGTH}
    assert TOGGLE.whatever.name.startswith('"UPDATE tasks SET completed=NOT')


def test_a_parameter_that_occurs_twice_is_one() -> None:
    statement = Prepared("SELECT %(b)s::int, %(a)s::text, %(b)s")
    assert statement == "SELECT %(b)s::int, %(a)s::text, %(b)s"
    assert " AS SELECT $1::int, $2::text, $1; EXECUTE " in statement.first
    assert statement.later.endswith('"(%(b)s, %(a)s)')


def test_a_statement_is_prepared_once(service: Service, database_url: str) -> None:
    user = service.user()
    task_id = user.create()["id"]

    def work(session: Session) -> list[str]:
        for _ in range(3):
            one_task(session, TOGGLE, user.id, task_id)
        return names(session)

    assert in_session(database_url, work) == [TOGGLE.whatever.name]
    assert user.list()[0]["completed"]


@pytest.mark.parametrize(
    "disturb", [CLEAR_ALL, "ALTER TABLE tasks ALTER title TYPE varchar(300)"], ids=["gone", "stale"]
)
def test_what_cannot_be_executed_as_prepared_is_executed_once(
    own: tuple[Service, str], disturb: str
) -> None:
    service, url = own
    user = service.user()
    task_id = user.create()["id"]

    def work(session: Session) -> list[bool]:
        found = []
        for _ in range(3):
            found.append(one_task(session, TOGGLE, user.id, task_id)["completed"])
            session.info[DRIVER].cursor().execute(disturb)
        return found

    assert in_session(url, work) == [True, False, True]


def test_a_statement_whose_first_execution_failed_is_prepared(
    service: Service, database_url: str
) -> None:
    user = service.user()
    task_id = user.create()["id"]
    prepare, _, _ = TOGGLE.whatever.first.partition("; EXECUTE")

    def work(session: Session) -> list[bool]:
        session.info[DRIVER].cursor().execute(prepare)  # nothing undoes it
        return [one_task(session, TOGGLE, user.id, task_id)["completed"] for _ in range(3)]

    assert in_session(database_url, work) == [True, False, True]


def test_a_plan_that_was_made_for_a_small_table_is_right_for_a_large_one(
    own: tuple[Service, str],
) -> None:
    service, url = own
    user = service.user()
    task_id = max(user.create()["id"] for _ in range(60))
    with connected(url) as cursor:
        cursor.execute("ANALYZE tasks")

    def work(session: Session) -> str:
        for _ in range(10):  # after five, PostgreSQL keeps the plan
            one_task(session, GET, user.id, task_id)
        values = {"owner": user.id, "task_id": task_id}
        return str(execute(session, f"EXPLAIN {GET.whatever.later}", values))

    assert "Index Scan using tasks_pkey" in in_session(url, work)


def test_a_new_task_is_created_once_if_its_statement_is_gone(
    service: Service, database_url: str
) -> None:
    user = service.user()

    def work(session: Session) -> None:
        for title in ("first", "second", "third"):
            new_task(session, user.id, title, None)
            session.info[DRIVER].cursor().execute(CLEAR_ALL)

    in_session(database_url, work)
    assert [task["title"] for task in user.list()] == ["third", "second", "first"]


def test_the_service_goes_on_after_a_column_has_changed_its_type(
    own: tuple[Service, str],
) -> None:
    service, url = own
    user = service.user()
    task_id = user.create()["id"]
    with connected(url) as cursor:
        cursor.execute("ALTER TABLE tasks ALTER title TYPE varchar(300)")
    assert [user.call("GET", f"/{task_id}").status_code for _ in range(3)] == [200] * 3
