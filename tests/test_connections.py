"""What the service asks of the operating system and of PostgreSQL for each connection."""

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar

import pytest
from sqlalchemy import make_url, text
from sqlmodel import Session

from connections import DatabaseTimeout, SessionPool, give_way

T = TypeVar("T")


@pytest.fixture
def url(database_url: str) -> str:
    return (
        make_url(database_url)
        .set(drivername="postgresql+psycopg2")
        .render_as_string(hide_password=False)
    )


def run_once(url: str, work: Callable[[Session], T]) -> T:
    async def run() -> T:
        pool = SessionPool(url, pool_size=2, time_limit=7)
        try:
            return await pool.run(work)
        finally:
            pool.close()

    return asyncio.run(run())


def options(session: Session) -> dict[str, int]:
    connection = session.connection().connection.dbapi_connection
    assert connection
    borrowed = socket.socket(fileno=connection.fileno())
    names = ["TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"]
    try:
        return {
            name: borrowed.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names
        }
    finally:
        borrowed.detach()


def test_tcp_notices_a_host_that_is_gone(url: str) -> None:
    assert run_once(url, options) == {
        "TCP_KEEPIDLE": 30,
        "TCP_KEEPINTVL": 10,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 7000,
    }


def test_the_urls_parameters_win(url: str) -> None:
    found = run_once(f"{url}?keepalives_idle=77&tcp_user_timeout=88000", options)
    assert (found["TCP_KEEPIDLE"], found["TCP_USER_TIMEOUT"]) == (77, 88000)


def test_postgresql_gives_a_statement_up_before_the_service_does(url: str) -> None:
    def timeout(session: Session) -> object:
        return session.execute(text("SELECT current_setting('statement_timeout')")).scalar_one()

    assert run_once(url, timeout) == "6300ms"


def test_work_that_takes_too_long_is_ended(url: str) -> None:
    def sleep(session: Session) -> None:
        for _ in range(600):  # none of them is too long for PostgreSQL
            session.execute(text("SELECT pg_sleep(0.2)"))

    async def ended() -> None:
        pool = SessionPool(url, pool_size=2, time_limit=3)
        with pytest.raises(DatabaseTimeout):
            await pool.run(sleep)
        # Both connections are free again.
        await asyncio.gather(pool.run(options), pool.run(options))
        pool.close()

    asyncio.run(ended())


def test_long_work_gives_way_to_others(url: str) -> None:
    done: list[str] = []

    def long(_session: Session) -> None:
        for _ in range(3):
            done.append("long")
            give_way()

    async def other() -> None:
        for _ in range(3):
            done.append("other")
            await asyncio.sleep(0)

    async def both() -> None:
        pool = SessionPool(url, pool_size=1, time_limit=7)
        await pool.run(options)  # it is connected now
        await asyncio.gather(pool.run(long), other())
        pool.close()

    asyncio.run(both())
    assert done == ["long", "other"] * 3
