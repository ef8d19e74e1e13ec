"""Measure statements of lists on a table of 1.1 million tasks, and what their indexes cost writes.

`uv run python -m benchmarks.lists` takes two minutes and half a gigabyte of disk.
"""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import psycopg2
from sqlalchemy import create_engine
from sqlmodel import SQLModel

import models
from dev_postgres import EmbeddedPostgres
from lists import _list, _page
from schemas import TaskOrder, TaskSort, TaskStatus
from texts import folded

OWNERS = ("dormant", "of_100", "of_10000", "of_100000")
FILL = """
INSERT INTO tasks (id, user_id, title, description, completed, created_at, updated_at)
SELECT i, CASE WHEN i % 11 = 0 THEN 'of_100000' WHEN i % 110 = 1 THEN 'of_10000'
               WHEN i % 11000 = 2 THEN 'of_100' WHEN i <= 100 THEN 'dormant'
               ELSE 'user_' || i % 9000 END,
       'Buy groceries ' || i, 'Milk, bread, eggs, coffee and whatever else is missing',
       i % 3 = 0, moment, moment
FROM generate_series(1, 1100000) i,
     LATERAL (SELECT timestamp '2020-01-01' + i * interval '1 second') _ (moment)"""
WRITES = {
    "insert": "INSERT INTO tasks (user_id, title) SELECT 'w' || i % 100, 'x'"
    " FROM generate_series(1, 20000) i RETURNING 1",
    "toggle": "UPDATE tasks SET completed = NOT completed, updated_at = now()"
    " WHERE user_id LIKE 'w%' RETURNING 1",
    "delete": "DELETE FROM tasks WHERE user_id LIKE 'w%' RETURNING 1",
}
INDEXES = ("idx_tasks_user_completed_created", "idx_tasks_user_completed_updated")
ROUNDS = 9


def milliseconds(cursor: Any, sql: str, values: Any = None) -> float:  # noqa: ANN401  # psycopg2's
    """Return the time of a statement and its rows."""
    started = time.perf_counter()
    cursor.execute(sql, values)
    cursor.fetchall()
    return (time.perf_counter() - started) * 1000


def read(cursor: Any, owner: str) -> None:  # noqa: ANN401
    """Print what an owner's lists cost."""
    values = {"owner": owner, "number": 51}
    first = {
        sort.value: _page(TaskStatus.ALL, sort, TaskOrder.DESC, is_first=True)
        for sort in (TaskSort.CREATED, TaskSort.UPDATED)
    }
    first["total"] = "SELECT count(*) FROM tasks WHERE user_id = %(owner)s"
    first["all rows"] = _list(TaskStatus.ALL, TaskSort.TITLE, TaskOrder.ASC)
    for name, sql in first.items():
        times = [milliseconds(cursor, sql, values) for _ in range(ROUNDS)]
        print(f"{owner}, {name}: {median(times):.2f} ms")
    cursor.execute(first["all rows"], values)
    rows = cursor.fetchall()
    started = time.thread_time()
    found = sum("coffee" in folded(row[2]) or "coffee" in folded(row[3]) for row in rows)
    print(f"{owner}, search of {found} in Python: {(time.thread_time() - started) * 1000:.2f} ms")


def write(cursor: Any) -> None:  # noqa: ANN401
    """Print what a write of one row costs, with and without the indexes."""
    definitions = []
    for name in INDEXES:
        cursor.execute("SELECT pg_get_indexdef(%s::regclass), pg_relation_size(%s)", [name, name])
        [(definition, size)] = cursor.fetchall()
        definitions.append(definition)
        print(f"{name}: {size / 1e6:.0f} MB")
    times: dict[tuple[str, bool], list[float]] = {}
    for _ in range(ROUNDS):
        for with_indexes in (False, True):
            for name, definition in zip(INDEXES, definitions, strict=True):
                cursor.execute(definition if with_indexes else f"DROP INDEX {name}")
            for name, sql in WRITES.items():
                micro = milliseconds(cursor, sql) * 1000 / cursor.rowcount
                times.setdefault((name, with_indexes), []).append(micro)
            cursor.execute("VACUUM (ANALYZE) tasks")
    for (name, with_indexes), each in times.items():
        print(f"{name} {'with' if with_indexes else 'without'}: {median(each):.1f} µs a row")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        server = EmbeddedPostgres(Path(folder) / "postgres")
        server.start()
        try:
            url = str(server.url)
            SQLModel.metadata.create_all(create_engine(url.replace("://", "+psycopg2://", 1)))
            connection = psycopg2.connect(url)
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(FILL)
                cursor.execute("SELECT setval('tasks_id_seq', 1100000)")
                cursor.execute(f"VACUUM (ANALYZE) {models.Task.__tablename__}")
                for owner in OWNERS:
                    read(cursor, owner)
                write(cursor)
        finally:
            server.stop()
