"""Results that are longer than a portion: whole, of one moment, and without a trace afterwards."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from sqlmodel import Session

from greenlets import await_
from pool import SessionPool
from statements import PORTION, TURN, execute, execute_in_turns
from support.postgres import connected, new_database

T = TypeVar("T")
NUMBER = 2 * PORTION + 1
NUMBERS = "SELECT n FROM numbers ORDER BY n"
ALL = list(range(1, NUMBER + 1))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Return the URL of a database with some numbers."""
    with new_database() as url:
        with connected(url) as cursor:
            cursor.execute(f"CREATE TABLE numbers AS SELECT generate_series(1, {NUMBER}) n")
        yield url


def run(url: str, *works: Callable[[Session], T], time_limit: float = 60) -> list[T]:
    """Return what each returns, one after the other on one connection."""

    async def run_all() -> list[T]:
        pool = SessionPool(url, pool_size=1, time_limit=time_limit)
        try:
            return [await pool.run(work) for work in works]
        finally:
            pool.close()

    return asyncio.run(run_all())


def numbers(session: Session, sql: str = NUMBERS) -> list[int]:
    return [number for turn in execute_in_turns(session, sql) for (number,) in turn]


def backend(session: Session) -> Any:  # noqa: ANN401
    return execute(session, "SELECT pg_backend_pid()")


def somebody_else(url: str, sql: str) -> None:
    with connected(url) as cursor:
        cursor.execute(sql)


OPEN = "FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"


@pytest.mark.parametrize("number", [0, 1, TURN, PORTION - 1, PORTION, PORTION + 1, 2 * PORTION])
def test_a_result_of_any_length_is_whole(url: str, number: int) -> None:
    sql = f"SELECT n FROM numbers WHERE n <= {number} ORDER BY n"
    before, found, after = run(url, backend, lambda session: numbers(session, sql), backend)
    assert found == ALL[:number]
    assert after == before  # on the same connection, in no transaction


def test_a_long_result_is_of_one_moment(url: str) -> None:
    def work(session: Session) -> list[int]:
        found: list[int] = []
        for turn in execute_in_turns(session, NUMBERS):
            if not found:
                change = "UPDATE numbers SET n = -n"
                await_(asyncio.to_thread(somebody_else, url, change))
            found += [number for (number,) in turn]
        return found

    try:
        assert run(url, work) == [ALL]
    finally:
        somebody_else(url, "UPDATE numbers SET n = abs(n)")


def test_a_long_result_is_read_again_if_its_connection_ends(url: str) -> None:
    attempts = 0

    def work(session: Session) -> list[int]:
        nonlocal attempts
        attempts += 1
        found: list[int] = []
        for turn in execute_in_turns(session, NUMBERS):
            found += [number for (number,) in turn]
            if attempts == 1 and len(found) == PORTION:
                end = f"SELECT pg_terminate_backend(pid, 60000) {OPEN}"
                await_(asyncio.to_thread(somebody_else, url, end))
        return found

    assert run(url, work) == [ALL]
    assert attempts == 2


def test_each_portion_has_the_time_limit_for_itself(url: str) -> None:
    def work(session: Session) -> int:
        found = 0
        for turn in execute_in_turns(session, NUMBERS):
            found += len(turn)
            if found % PORTION == 0:
                await_(asyncio.sleep(4))
        return found

    assert run(url, work, time_limit=7) == [NUMBER]


def test_what_is_not_read_to_its_end_leaves_no_transaction(url: str) -> None:
    def work(session: Session) -> list[int]:
        for turn in execute_in_turns(session, NUMBERS):
            return [number for (number,) in turn]
        raise AssertionError

    before, found, after = run(url, backend, work, backend)
    assert found == ALL[:TURN]
    assert after != before
    with connected(url) as cursor:
        cursor.execute(f"SELECT count(*) {OPEN}")
        assert cursor.fetchall() == [(0,)]
