"""A PostgreSQL of the benchmark's own, with tasks in it."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2.extensions import cursor as Cursor  # noqa: N812  # a class

from dev_postgres import EmbeddedPostgres as Postgres

__all__ = ["Postgres"]
# All else, fsync and synchronous_commit above all, is PostgreSQL's default.
CONFIGURATION = {"max_connections": "300"}
BYTES_PER_ROW = 500
"""Amply, for the table, its indexes and the write-ahead log of its making."""
TITLE = "Buy groceries 0123456"
DESCRIPTION = "Milk, bread, eggs, coffee and whatever else the fridge is short of"
TASKS_PER_USER = 100
MAX_READERS = 1000


@dataclass(frozen=True)
class Owner:
    """A user, whose tasks have the ids first, first + step, first + 2 step and so on."""

    user_id: str
    first: int = 0
    step: int = 0
    count: int = 0


WRITERS = [Owner(f"writer_{number}") for number in range(1, 101)]
"""Users who create tasks, so that the readers' lists keep their length."""


def large_owners(rows: int, counts: Sequence[int]) -> list[Owner]:
    """Return users with so many tasks each, spread over the whole table."""
    return [
        Owner(f"owner_of_{count}", first, rows // count, count)
        for first, count in enumerate(counts, start=1)
    ]


@dataclass(frozen=True)
class Database:
    """A database with a filled table."""

    server: Postgres
    url: str
    readers: list[Owner]
    cursor: Cursor

    def deletable(self, number: int) -> range:
        """Return the ids of so many new tasks of the first writer; his older ones are deleted."""
        self.cursor.execute("DELETE FROM tasks WHERE user_id = %s", [WRITERS[0].user_id])
        self.cursor.execute(
            "WITH made AS (INSERT INTO tasks (user_id, title, description)"
            " SELECT %s, %s, %s FROM generate_series(1, %s) RETURNING id)"
            " SELECT min(id), max(id) + 1 FROM made",
            [WRITERS[0].user_id, TITLE, DESCRIPTION, number],
        )
        return range(*self.cursor.fetchall()[0])


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL of the benchmark's own, and delete its data."""
    folder = Path(tempfile.mkdtemp(prefix="todo-backend-benchmark-"))
    folder.chmod(0o711)
    server = Postgres(folder / "postgres", CONFIGURATION)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@contextmanager
def connected(url: str) -> Iterator[Cursor]:
    """Yield a cursor in autocommit mode."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


@contextmanager
def filled_database(
    server: Postgres,
    name: str,
    rows: int,
    migrate: Callable[["Database"], None],
    owners: Sequence[Owner] = (),
) -> Iterator[Database]:
    """Make a database with so many tasks, a hundred for each user but for the owners."""
    needed, free = rows * BYTES_PER_ROW, shutil.disk_usage(server.folder).free
    if free < needed:
        raise SystemExit(f"{rows:,} rows need {needed / 1e9:.1f} GB; {free / 1e9:.1f} GB are free")
    url = server.url.removesuffix("postgres") + name
    with connected(server.url) as cursor:
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    users = rows // TASKS_PER_USER
    some = range(1, users + 1, max(1, users // MAX_READERS))
    readers = [Owner(f"bench_{user}", user, users, TASKS_PER_USER) for user in some]
    with connected(url) as cursor:
        database = Database(server, url, readers, cursor)
        migrate(database)
        _fill(cursor, rows, owners)
        yield database


def _fill(cursor: Cursor, rows: int, owners: Sequence[Owner]) -> None:
    """Insert the tasks; as after months of use, each row is another user's than the last."""
    users = rows // TASKS_PER_USER
    user_id = f"'bench_' || (i - 1) % {users} + 1"
    for owner in owners:
        user_id = (
            f"CASE WHEN i % {owner.step} = {owner.first} THEN '{owner.user_id}' ELSE {user_id} END"
        )
    cursor.execute(
        "SELECT indexname, indexdef FROM pg_indexes"
        " WHERE tablename = 'tasks' AND indexname <> 'tasks_pkey'"
    )
    indexes = dict(cursor.fetchall())
    for name in indexes:
        cursor.execute(f"DROP INDEX {name}")
    cursor.execute(
        f"""
        INSERT INTO tasks (id, user_id, title, description, completed, created_at, updated_at)
        SELECT i, {user_id}, 'Buy groceries ' || lpad((i * 7919 % 1000003)::text, 7, '0'),
               '{DESCRIPTION}', (i - 1) / {users} % 2 = 1, moment, moment
        FROM generate_series(1, {rows}::bigint) i,
             LATERAL (SELECT timestamp '2020-01-01 00:00:00.000001' + i * interval '1 second')
                 AS _ (moment)
        """
    )
    for definition in indexes.values():
        cursor.execute(definition)
    cursor.execute("SELECT setval(pg_get_serial_sequence('tasks', 'id'), max(id)) FROM tasks")
    cursor.execute("VACUUM (ANALYZE) tasks")
    cursor.execute("CHECKPOINT")
