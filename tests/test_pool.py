"""What the service asks of the operating system and of PostgreSQL for each connection."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg2
import pytest
from sqlalchemy import make_url, text
from sqlmodel import Session

from connection import DatabaseTimeout, Servers
from greenlets import Greenlets, await_
from pool import SessionPool
from statements import TURN, execute, execute_in_turns, give_way
from support.postgres import connected, new_database
from support.service import PATIENCE

T = TypeVar("T")


@pytest.fixture
def url(database_url: str) -> str:
    return database_url


def run_once(url: str, work: Callable[[Session], T], time_limit: float = 7) -> T:
    async def run() -> T:
        pool = SessionPool(url, pool_size=2, time_limit=time_limit)
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


MILLISECONDS = "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'"


def test_postgresql_gives_a_statement_up_before_the_service_does(url: str) -> None:
    def timeout(session: Session) -> object:
        return session.execute(text(MILLISECONDS)).scalar_one()

    # What connecting took is no longer there for the statement.
    assert 30_000 < int(str(run_once(url, timeout, 100))) <= 90_000


def test_a_connection_has_a_limit_for_all_statements(url: str) -> None:
    def work(session: Session) -> object:
        return session.execute(text(MILLISECONDS)).scalar_one()

    # Exactly, as it was set when the connection was made, and not by what is left for this one.
    assert run_once(url, work, 200) == "180000"


def test_work_that_has_waited_has_less_time_for_its_statement(url: str) -> None:
    def timeouts(session: Session) -> list[int]:
        found = []
        for seconds in (0, 4):
            await_(asyncio.sleep(seconds))
            found.append(int(session.execute(text(MILLISECONDS)).scalar_one()))
        return found

    async def found() -> list[int]:
        pool = SessionPool(url, pool_size=1, time_limit=60)
        await pool.run(options)  # there is a connection now
        try:
            return await pool.run(timeouts)
        finally:
            pool.close()

    at_once, later = asyncio.run(found())
    # The connection's own limit is a tenth less than that of the work, whatever it has waited.
    assert later <= 50_000 < at_once <= 54_000


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


def test_work_on_rows_that_are_here_has_no_time_limit(url: str) -> None:
    rows = 2 * TURN + 1

    def work(session: Session) -> list[int]:
        sizes = []
        for turn in execute_in_turns(session, f"SELECT generate_series(1, {rows})"):
            sizes.append(len(turn))
            await_(asyncio.sleep(3))
        return sizes

    assert run_once(url, work) == [TURN, TURN, 1]


END = "SELECT pg_terminate_backend(pg_backend_pid())"


@pytest.mark.parametrize(
    ("statements", "attempts"),
    [
        ([END], 2),
        (["SELECT 1", END], 2),
        (["INSERT INTO marks VALUES (1) RETURNING 1", END], 1),
        (["WITH mark AS (INSERT INTO marks VALUES (1) RETURNING 1) SELECT * FROM mark", END], 1),
        (["UPDATE marks SET mark = 2 RETURNING pg_terminate_backend(pg_backend_pid())"], 1),
    ],
)
def test_only_work_that_cannot_have_changed_anything_is_started_again(
    statements: list[str], attempts: int
) -> None:
    started = []

    def work(session: Session) -> None:
        started.append(1)
        for statement in statements:
            execute(session, statement)

    with new_database() as url:
        with connected(url) as cursor:
            cursor.execute("CREATE TABLE marks AS SELECT 0 AS mark")
        with pytest.raises(psycopg2.OperationalError):
            run_once(url, work)
    assert len(started) == attempts


def test_a_statement_for_which_too_little_time_is_left_is_not_sent(url: str) -> None:
    sent = []

    def late(session: Session) -> None:
        await_(asyncio.sleep(0.85))
        sent.append(execute(session, "SELECT 1"))

    async def run() -> None:
        pool = SessionPool(url, pool_size=1, time_limit=1)
        await pool.run(backend)  # it is connected now
        with pytest.raises(DatabaseTimeout):
            await pool.run(late)
        pool.close()

    asyncio.run(run())
    assert sent == []


def backend(session: Session) -> object:
    """Return which connection it is: behind a pooler several have the same process."""
    execute(session, "SELECT pg_sleep(0.1)")
    connection = session.connection().connection.dbapi_connection
    assert connection
    borrowed = socket.socket(fileno=connection.fileno())
    try:
        return borrowed.getsockname()
    finally:
        borrowed.detach()


@pytest.mark.parametrize(("max_age", "backends"), [(1800.0, 1), (0.0, 3)])
def test_a_connection_has_a_maximal_age(
    url: str, monkeypatch: pytest.MonkeyPatch, max_age: float, backends: int
) -> None:
    monkeypatch.setattr("pool.MAX_AGE", max_age)

    async def run() -> set[object]:
        pool = SessionPool(url, pool_size=1, time_limit=60)
        try:
            return {await pool.run(backend) for _ in range(3)}
        finally:
            pool.close()

    assert len(asyncio.run(run())) == backends


def test_of_several_hosts_a_silent_one_blocks_nobody(url: str) -> None:
    """One listens and says nothing, as a frozen host; it is tried first, and then last."""
    server = make_url(url)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = f"127.0.0.1:{silent.getsockname()[1]},{server.host}:{server.port}"
        several = (
            f"postgresql://{server.username}:{server.password}@{hosts}/{server.database}"
            "?target_session_attrs=read-write"
        )

        async def run() -> tuple[object, object]:
            pool = SessionPool(several, pool_size=2, time_limit=60)
            try:
                await pool.run(backend)
                silent.close()
                return await asyncio.gather(pool.run(backend), pool.run(backend))
            finally:
                pool.close()

        assert len(set(asyncio.run(run()))) == 2


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


def test_a_lost_connection_leaves_its_descriptors_number_to_others(url: str) -> None:
    """Libpq closes its socket as soon as the server has ended the connection."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        connection: Any = await loop.run_in_executor(None, Servers(url).connect)
        greenlets = Greenlets()

        def ask() -> None:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(0)")

        await greenlets.call(ask)
        number = connection.fileno()
        with connected(url) as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 60000)", [connection.info.backend_pid])
        with pytest.raises(psycopg2.OperationalError):
            await greenlets.call(ask)
        pair = socket.socketpair()
        assert number in {each.fileno() for each in pair}
        mine, other = sorted(pair, key=lambda each: each.fileno() != number)
        arrived = loop.create_future()
        loop.add_reader(mine, arrived.set_result, None)
        connection.close()
        other.send(b"x")
        await asyncio.wait_for(arrived, PATIENCE)
        loop.remove_reader(mine)
        for each in pair:
            each.close()

    asyncio.run(run())
