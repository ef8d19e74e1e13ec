"""A migration disturbs no version of the service that runs beside it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import alembic.command
import pytest
from alembic.script import ScriptDirectory

from database import NEWEST
from support.postgres import connected, new_database, waiting_for_locks
from support.service import PATIENCE, environment, patient, running, wait_for
from test_database import run_alembic
from upgrade import alembic_config

REVISIONS = [
    (script.down_revision, script.revision)
    for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()
    if script.down_revision
][::-1]
RETIRED: set[tuple[str, str, str]] = set()
"""What a migration may remove or change, as (kind, table, name): no release in use needs it."""
TABLES = "SELECT oid, relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
CATALOG = f"""
    WITH tables AS ({TABLES} AND relkind = 'r')
    SELECT 'table', relname, '', format('%s %s', relfilenode, relrowsecurity)
        FROM pg_class JOIN tables USING (oid, relname)
    UNION ALL
    SELECT 'column', relname, attname::text,
           format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END
           || coalesce(' DEFAULT ' || pg_get_expr(adbin, adrelid), '')
        FROM pg_attribute JOIN tables ON attrelid = oid AND attnum > 0
             LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    UNION ALL
    SELECT 'constraint', relname, conname::text, pg_get_constraintdef(pg_constraint.oid)
        FROM pg_constraint JOIN tables ON conrelid = tables.oid WHERE contype <> 'n'
    UNION ALL
    SELECT 'index', relname, indexrelid::regclass::text, pg_get_indexdef(indexrelid)
        FROM pg_index JOIN tables ON indrelid = oid
    UNION ALL
    SELECT 'trigger', relname, tgname::text, pg_get_triggerdef(pg_trigger.oid)
        FROM pg_trigger JOIN tables ON tgrelid = tables.oid WHERE NOT tgisinternal
    UNION ALL
    SELECT 'sequence', '', relname::text, '' FROM ({TABLES} AND relkind = 'S') AS sequences
    UNION ALL
    SELECT 'row', 'tasks', id::text, format('%s %s', xmin, ctid) FROM tasks
"""
"""What there is: an old version needs each of these as it is. The file of a table changes when
PostgreSQL writes it anew, and the place of a row when something changes it."""

Catalog = dict[tuple[str, str, str], str]


def catalog(cursor: Any) -> Catalog:  # noqa: ANN401  # psycopg2's
    cursor.execute(CATALOG)
    return {(kind, table, name): definition for kind, table, name, definition in cursor.fetchall()}


def violations(before: Catalog, after: Catalog) -> list[str]:
    """Say what the change does that the rule in docs/deployment.md forbids."""
    found = [
        f"removes or changes {thing}: {before[thing]} -> {after.get(thing)}"
        for thing in before.keys() - RETIRED
        if after.get(thing) != before[thing]
    ]
    old_tables = {table for kind, table, _ in before if kind == "table"}
    for thing in after.keys() - before.keys():
        kind, table, _ = thing
        definition = after[thing]
        refuses_old_writes = (
            (kind == "column" and "NOT NULL" in definition and "DEFAULT" not in definition)
            or (kind == "index" and "UNIQUE" in definition)
            or kind == "constraint"
        )
        if table in old_tables and refuses_old_writes:
            found.append(f"adds what may refuse an old version's writes, {thing}: {definition}")
    return found


@pytest.fixture
def url() -> Iterator[str]:
    """A database with the first revision's schema, and a task."""
    with new_database() as url:
        run_alembic(url, alembic.command.upgrade, "0001")
        with connected(url) as cursor:
            cursor.execute("INSERT INTO tasks (user_id, title) VALUES ('somebody', 'x')")
        yield url


def test_a_migrations_file_name_begins_with_its_revision() -> None:
    """A start compares the newest one with the database's, without Alembic."""
    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == NEWEST


@pytest.mark.parametrize(("previous", "revision"), REVISIONS)
def test_a_migration_only_adds(url: str, previous: str, revision: str) -> None:
    run_alembic(url, alembic.command.upgrade, previous)
    with connected(url) as cursor:
        before = catalog(cursor)
        run_alembic(url, alembic.command.upgrade, revision)
        assert violations(before, catalog(cursor)) == []


@pytest.mark.parametrize(("previous", "revision"), REVISIONS)
def test_an_index_may_be_built_before_the_migration(url: str, previous: str, revision: str) -> None:
    """On a large table, CREATE INDEX without CONCURRENTLY would block writes for too long."""
    run_alembic(url, alembic.command.upgrade, previous)
    with connected(url) as cursor:
        before = catalog(cursor)
        run_alembic(url, alembic.command.upgrade, revision)
        after = catalog(cursor)
        run_alembic(url, alembic.command.downgrade, previous)
        tables = {table for kind, table, _ in before if kind == "table"}
        for kind, table, name in after.keys() - before.keys():
            if kind == "index" and table in tables:
                definition = after[kind, table, name]
                cursor.execute(definition.replace("INDEX", "INDEX CONCURRENTLY", 1))
        run_alembic(url, alembic.command.upgrade, revision)
        assert catalog(cursor).keys() == after.keys()


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE idempotency_keys",
        "ALTER TABLE idempotency_keys RENAME TO keys",
        "ALTER TABLE tasks DROP COLUMN description",
        "ALTER TABLE tasks RENAME COLUMN title TO name",
        "ALTER TABLE tasks ALTER title TYPE varchar(100)",
        "ALTER TABLE tasks ALTER title TYPE varchar(300)",
        "ALTER TABLE tasks ALTER id TYPE bigint",
        "ALTER TABLE tasks ALTER description SET NOT NULL",
        "ALTER TABLE tasks ALTER completed DROP DEFAULT",
        "ALTER TABLE tasks ADD COLUMN moment timestamp DEFAULT clock_timestamp()",
        "ALTER TABLE idempotency_keys ADD COLUMN priority integer NOT NULL",
        "ALTER TABLE tasks ADD CHECK (title <> '')",
        "ALTER TABLE idempotency_keys ADD FOREIGN KEY (task_id) REFERENCES tasks (id)",
        "ALTER TABLE tasks ENABLE ROW LEVEL SECURITY",
        "CREATE UNIQUE INDEX ON tasks (user_id, title)",
        "DROP INDEX idx_tasks_user_id",
        "ALTER SEQUENCE tasks_id_seq RENAME TO ids",
        "UPDATE tasks SET description = ''",
        "DELETE FROM tasks",
    ],
)
def test_what_the_rule_forbids_is_noticed(url: str, change: str) -> None:
    run_alembic(url, alembic.command.upgrade, "0002")
    with connected(url) as cursor:
        cursor.execute("UPDATE tasks SET description = 'x'")
        before = catalog(cursor)
        cursor.execute(change)
        assert violations(before, catalog(cursor))


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE tasks ADD COLUMN priority integer",
        "ALTER TABLE tasks ADD COLUMN priority integer NOT NULL DEFAULT 0",
        "ALTER TABLE tasks ADD COLUMN seen timestamp DEFAULT now()",
        "CREATE TABLE labels (id serial PRIMARY KEY, name text NOT NULL UNIQUE)",
        "CREATE INDEX ON tasks (user_id, title)",
    ],
)
def test_what_the_rule_allows_passes(url: str, change: str) -> None:
    with connected(url) as cursor:
        before = catalog(cursor)
        cursor.execute(change)
        assert violations(before, catalog(cursor)) == []


def test_requests_do_not_wait_behind_a_migration_that_waits(url: str) -> None:
    """PostgreSQL lets nobody overtake a statement that waits for a lock on a table."""
    with (
        connected(url) as other,
        connected(url) as writer,
        connected(url) as watcher,
        ThreadPoolExecutor(1) as thread,
    ):
        other.execute("BEGIN; INSERT INTO tasks (user_id, title) VALUES ('somebody', 'y')")

        def write_meanwhile() -> None:
            wait_for(lambda: waiting_for_locks(watcher))
            writer.execute(f"SET statement_timeout = '{PATIENCE}s'")
            writer.execute("INSERT INTO tasks (user_id, title) VALUES ('somebody', 'z')")
            other.execute("COMMIT")

        writing = thread.submit(write_meanwhile)
        # A start waits for the schema: a version that needs a new column would fail without.
        env = environment(url, LOG_LEVEL="info")
        with running(env, program=patient("main.FIRST_MIGRATION_TIMEOUT")) as service:
            writing.result()
            output = service.output()
            assert len(service.user("somebody").list()) == 3
    refused = output.index("Schema not applied yet: end the transaction that has a table locked")
    applied = output.index("Schema is up to date")
    assert refused < applied < output.index("Application startup complete")
    assert "Traceback" not in output
