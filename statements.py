"""Executes statements with psycopg2 on a session's connection, and reads their rows in turns."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlmodel import Session

from connection import PooledConnection
from greenlets import await_
from pool import CURSOR, DRIVER

TURN = 500
"""Rows after which work on many should give way to other requests: a millisecond or two."""
PORTION = 4 * TURN
"""Rows that this process holds at once, as libpq holds a result as a whole."""


def execute(
    session: Session, sql: str, values: Mapping[str, Any] | None = None
) -> Sequence[Sequence[Any]]:
    """Return the rows of a statement that psycopg2 executes on the session's connection."""
    cursor = session.info[CURSOR]
    cursor.execute(sql, values)
    rows: Sequence[Sequence[Any]] = cursor.fetchall()
    return rows


def execute_in_turns(
    session: Session, sql: str, values: Mapping[str, Any] | None = None
) -> Iterator[Sequence[Sequence[Any]]]:
    """Yield the rows of a SELECT, `TURN` at a time; let other requests go on in between.

    If there are more rows than a `PORTION`, PostgreSQL is asked again, for one portion after the
    other, and each has the time limit for itself. The limit ends when all rows are here: the rest
    waits for nobody.
    """
    driver: PooledConnection = session.info[DRIVER]
    cursor = driver.cursor()
    cursor.execute(f"{sql} LIMIT {PORTION + 1}", values)
    if cursor.rowcount <= PORTION:
        driver.limit.lift()
        yield from _turns(cursor)
    else:
        # All rows of one moment. The planner may not prefer a plan whose first rows come sooner.
        cursor.execute(
            "BEGIN READ ONLY; SET LOCAL cursor_tuple_fraction = 1;"
            f" DECLARE rows NO SCROLL CURSOR FOR {sql}; FETCH {PORTION} FROM rows",
            values,
        )
        while cursor.rowcount:
            yield from _turns(cursor)
            give_way()
            driver.limit.renew()
            cursor.execute(f"FETCH {PORTION} FROM rows")
        cursor.execute("ROLLBACK")
        driver.limit.lift()
    cursor.close()


def _turns(cursor: Any) -> Iterator[Sequence[Sequence[Any]]]:  # noqa: ANN401  # psycopg2's
    while rows := cursor.fetchmany(TURN):
        yield rows
        if len(rows) < TURN:
            break
        give_way()


def give_way() -> None:
    """Let other requests go on, in the middle of a long piece of work."""
    await_(asyncio.sleep(0))
