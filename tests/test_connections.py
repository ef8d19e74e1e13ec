"""What the service asks of the operating system and of PostgreSQL for each connection."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
from sqlalchemy import make_url, text
from sqlmodel import Session

from connections import DatabaseTimeout, SessionPool


@pytest.fixture
def url(database_url: str) -> str:
    return (
        make_url(database_url)
        .set(drivername="postgresql+psycopg2")
        .render_as_string(hide_password=False)
    )


@pytest.fixture
def pool(url: str) -> Iterator[SessionPool]:
    pool = SessionPool(url, pool_size=2, time_limit=7)
    yield pool
    pool.close()


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


def test_tcp_notices_a_host_that_is_gone(pool: SessionPool) -> None:
    assert asyncio.run(pool.run(options)) == {
        "TCP_KEEPIDLE": 30,
        "TCP_KEEPINTVL": 10,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 7000,
    }


def test_the_urls_parameters_win(url: str) -> None:
    given = f"{url}?keepalives_idle=77&tcp_user_timeout=88000"
    pool = SessionPool(given, pool_size=1, time_limit=7)
    try:
        found = asyncio.run(pool.run(options))
        assert (found["TCP_KEEPIDLE"], found["TCP_USER_TIMEOUT"]) == (77, 88000)
    finally:
        pool.close()


def test_postgresql_gives_a_statement_up_before_the_service_does(
    pool: SessionPool,
) -> None:
    def timeout(session: Session) -> object:
        return session.execute(text("SELECT current_setting('statement_timeout')")).scalar_one()

    assert asyncio.run(pool.run(timeout)) == "6300ms"


def test_work_that_takes_too_long_is_ended(url: str) -> None:
    def sleep(session: Session) -> None:
        for _ in range(60):  # none of them is too long for PostgreSQL
            session.execute(text("SELECT pg_sleep(0.2)"))

    async def ended() -> None:
        pool = SessionPool(url, pool_size=2, time_limit=1)
        with pytest.raises(DatabaseTimeout):
            await pool.run(sleep)
        # Both connections are free again.
        await asyncio.gather(pool.run(options), pool.run(options))
        pool.close()

    asyncio.run(ended())
