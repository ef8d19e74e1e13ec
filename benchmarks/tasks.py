"""The tasks that the measurements read and change, and their users."""

from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import cursor as Cursor  # noqa: N812  # a class

TITLE = "Buy groceries 0123456"
DESCRIPTION = "Milk, bread, eggs, coffee and whatever else the fridge is short of"
TASKS_PER_USER = 100


@dataclass(frozen=True)
class Owner:
    """A user, whose tasks have the ids first, first + step, first + 2 step and so on."""

    user_id: str
    first: int = 0
    step: int = 0
    count: int = 0
    apart: bool = False
    """Whether there are more tasks than the others have, or fewer: see `fill`."""


WRITERS = [Owner(f"writer_{number}") for number in range(1, 101)]
"""Users who create, so that the lists of those who read keep their length; the first deletes."""


def readers(rows: int, number: int = 1000) -> list[Owner]:
    """Return some of the users in a table of so many rows, spread evenly."""
    users = rows // TASKS_PER_USER
    chosen = range(1, users + 1, max(1, users // number))
    return [Owner(f"bench_{user}", user, users, TASKS_PER_USER) for user in chosen]


def large_owners(rows: int, counts: list[int]) -> list[Owner]:
    """Return users with so many tasks each, all over the table: see `fill`."""
    return [
        Owner(f"owner_of_{count}", first, rows // count, count, apart=True)
        for first, count in enumerate(counts, start=1)
    ]


def fill(cursor: Cursor, rows: int, owners: list[Owner] | None = None) -> None:
    """Put that many rows into the empty table, a hundred for each user but for the owners.

    As after months of use, a user's tasks lie far apart: the next row is the next user's.
    """
    users = rows // TASKS_PER_USER
    user_id = f"'bench_' || (i - 1) % {users} + 1"
    for owner in owners or []:
        user_id = (
            f"CASE WHEN i % {owner.step} = {owner.first} THEN '{owner.user_id}' ELSE {user_id} END"
        )
    indexes = _secondary_indexes(cursor)
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


def _secondary_indexes(cursor: Cursor) -> dict[str, str]:
    cursor.execute(
        "SELECT indexname, indexdef FROM pg_indexes"
        " WHERE tablename = 'tasks' AND indexname <> 'tasks_pkey'"
    )
    return dict(cursor.fetchall())


class DeletePool:
    """Tasks of the first writer that nobody has deleted yet, with ids without gaps."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._next = self._end = 0

    def first(self, number: int) -> int:
        """Return the first id of at least so many tasks, made if there are fewer."""
        if self._end - self._next < number:
            self._cursor.execute(
                "WITH made AS (INSERT INTO tasks (user_id, title, description)"
                " SELECT %s, %s, %s FROM generate_series(1, %s) RETURNING id)"
                " SELECT min(id), max(id) FROM made",
                [WRITERS[0].user_id, TITLE, DESCRIPTION, number],
            )
            self._next, last = _row(self._cursor)
            self._end = last + 1
        return self._next

    def used(self, number: int) -> None:
        """Note that so many more are gone."""
        self._next += number


def _row(cursor: Cursor) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row
    return row
