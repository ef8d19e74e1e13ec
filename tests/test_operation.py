"""What an operator sees of the service: its start, the documentation, the log at debug, --check."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from psycopg2.errors import UniqueViolation
from sqlalchemy import make_url
from uvicorn.config import STARTUP_FAILURE

from config import Settings
from support.network import network_to
from support.postgres import connected, new_database
from support.service import (
    LINE,
    PATIENCE,
    PROJECT,
    assert_clean_log,
    assert_error,
    environment,
    running,
)

DOCUMENTATION = ("/docs", "/openapi.json", "/static-offline-docs/swagger-ui.css", "/redoc")


def check(url: str, **variables: str) -> tuple[int, str]:
    """Run `main.py --check`; return its exit code and its line."""
    ended = subprocess.run(
        [sys.executable, "main.py", "--check"],
        cwd=PROJECT,
        env=environment(url, LOG_LEVEL="info", **variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    (line,) = ended.stderr.splitlines()
    assert LINE.fullmatch(line)
    assert (ended.stdout, url in line) == ("", False)
    return ended.returncode, line.rpartition(" [")[2].removesuffix("]")


@pytest.fixture
def migrated() -> Iterator[str]:
    with new_database() as url:
        with running(environment(url)) as service:
            service.user().create()
        yield url


# --- documentation ---


def test_the_documentation_can_be_hidden(database_url: str) -> None:
    with running(environment(database_url, DOCS="Off")) as service:
        for path in DOCUMENTATION:
            assert_error(service.client.get(path), 404, "Not found", "NOT_FOUND")
            assert_error(service.client.post(path), 404, "Not found", "NOT_FOUND")
        assert service.client.get("/health").status_code == 200
        assert service.user().create()["title"] == "Buy groceries"


# --- start ---


def test_the_start_says_how_the_service_is_set_up(database_url: str) -> None:
    env = environment(database_url, DB_MAX_OVERFLOW="3")
    url = make_url(database_url)
    with running(env) as service:
        (line,) = [line for line in service.output().splitlines() if "Todo API" in line]
    assert line.endswith(
        "[Todo API 1.0.0, environment test, workers: 1, connections of each: 5 + 3,"
        f" database: {url.host} port {url.port}]"
    )
    assert str(url.username) not in line.replace(str(url.host), "")


def test_no_placeholder_of_the_example_starts_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is taken over from a comment of the example file, required settings included."""
    monkeypatch.setitem(Settings.model_config, "env_file", PROJECT / ".env.example")
    example = (PROJECT / ".env.example").read_text(encoding="utf-8")
    urls = re.findall(r"postgres(?:ql)?://\S+", example)
    assert len(urls) == 2
    for url in urls:
        code, line = check(url)
        assert code == STARTUP_FAILURE
        assert "DATABASE_URL still has" in line
    (secrets,) = re.findall(r"2:the-\S+", example)
    code, line = check("postgresql://h/d", BETTER_AUTH_SECRETS=secrets)
    assert (code, "BETTER_AUTH_SECRETS must" in line) == (STARTUP_FAILURE, True)


# --- the log at level debug ---


def test_debug_shows_waits_statements_and_why_a_request_was_refused(database_url: str) -> None:
    with running(environment(database_url)) as service:
        user = service.user()
        user.create("title-canary", description="description-canary")
        assert user.call("POST", json={"title": ""}).status_code == 400
        assert user.call("GET", "/9999999").status_code == 404
        service.stop()
        output = service.output()
    lines = [line for line in output.splitlines() if f"[{user.id}]" in line]
    for pattern in (
        r"\[Waited \d+\.\d ms for a connection request_id=",
        r"\[Statement took \d+\.\d ms: INSERT INTO tasks ",
        r"\[VALIDATION_ERROR: Title must be between 1 and 200 characters request_id=",
        r"\[NOT_FOUND: Task with id 9999999 not found request_id=",
    ):
        assert any(re.search(pattern, line) for line in lines), pattern
    assert_clean_log(output, "title-canary", "description-canary")


def test_a_statement_that_fails_is_shown_at_debug(database_url: str) -> None:
    with running(environment(database_url, DB_TIMEOUT="1")) as service:
        user = service.user()
        task = user.create()
        with connected(database_url) as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT FROM tasks WHERE id = %s FOR UPDATE", [task["id"]])
            assert user.call("DELETE", f"/{task['id']}").status_code == 500
        assert re.search(r"\[Statement failed after \d+\.\d ms: DELETE", service.output())


def test_info_shows_none_of_it(database_url: str) -> None:
    with running(environment(database_url, LOG_LEVEL="info")) as service:
        service.user().create()
        assert service.user().call("POST", json={"title": ""}).status_code == 400
        output = service.output()
    assert not re.search("Waited|Statement|VALIDATION_ERROR", output)


# --- main.py --check ---


def test_a_database_that_is_ready_passes(migrated: str) -> None:
    with connected(migrated) as cursor:
        cursor.execute("SELECT count(*) FROM tasks")
        before = cursor.fetchall()
        assert check(migrated) == (
            0,
            "The settings and the database are right; the schema is up to date",
        )
        cursor.execute("SELECT count(*) FROM tasks")
        assert cursor.fetchall() == before


def test_an_empty_database_passes_and_stays_empty() -> None:
    with new_database() as url, connected(url) as cursor:
        assert check(url) == (
            0,
            "The settings and the database are right; the start will bring the schema up to date",
        )
        cursor.execute("SELECT count(*) FROM pg_class WHERE relname = 'tasks'")
        assert cursor.fetchall() == [(0,)]


def test_a_newer_schema_passes(migrated: str) -> None:
    with connected(migrated) as cursor:
        cursor.execute("UPDATE alembic_version SET version_num = '9999'")
    assert check(migrated) == (
        0,
        "The settings and the database are right; the schema is of a newer version of the service",
    )


def test_an_index_that_was_not_completed_fails(migrated: str) -> None:
    with connected(migrated) as cursor:
        cursor.execute("INSERT INTO tasks (user_id, title) VALUES ('twin', 'x'), ('twin', 'x')")
        with pytest.raises(UniqueViolation):
            cursor.execute("CREATE UNIQUE INDEX CONCURRENTLY incomplete ON tasks (user_id)")
        code, line = check(migrated)
        assert code == 1
        assert "its index incomplete is invalid" in line
        cursor.execute("DROP INDEX incomplete")
    assert check(migrated)[0] == 0


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("ALTER TABLE tasks DROP COLUMN description", "column tasks.description does not exist"),
        ("DROP TABLE tasks", 'relation "tasks" does not exist'),
        ("ALTER TABLE tasks ADD CHECK (title <> 'x') NOT VALID", "violates check constraint"),
        ("DROP TABLE alembic_version", "it has a table tasks that this service's migrations"),
        ("ALTER DATABASE {} SET default_transaction_read_only = on", "it is read-only"),
    ],
)
def test_a_database_that_is_not_ready_fails(migrated: str, damage: str, reason: str) -> None:
    with connected(migrated) as cursor:
        cursor.execute(damage.format(make_url(migrated).database))
    code, line = check(migrated)
    assert code == 1
    assert line.startswith("The database cannot be used: ")
    assert reason in line


def test_a_user_without_rights_fails(migrated: str) -> None:
    url = make_url(migrated)
    with connected(migrated) as cursor:
        role = f"reader_{url.database}"
        cursor.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'password-canary'")
        try:
            cursor.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
            limited = url.set(username=role, password="password-canary")
            code, line = check(limited.render_as_string(hide_password=False))
            assert (code, "permission denied for table tasks" in line) == (1, True)
            cursor.execute("UPDATE alembic_version SET version_num = '0001'")
            cursor.execute("DELETE FROM alembic_version")
            code, line = check(limited.render_as_string(hide_password=False))
            assert (code, "GRANT CREATE ON SCHEMA" in line) == (1, True)
        finally:
            cursor.execute(f"DROP OWNED BY {role}")
            cursor.execute(f"DROP ROLE {role}")


def test_a_database_of_another_encoding_fails() -> None:
    with new_database("SQL_ASCII") as url:
        code, line = check(url)
    assert (code, "its encoding is SQL_ASCII" in line) == (1, True)


def test_an_unreachable_database_fails(migrated: str) -> None:
    wrong = make_url(migrated).set(password="password-canary")
    code, line = check(wrong.set(port=1).render_as_string(hide_password=False))
    assert (code, "Connection refused" in line, "canary" in line) == (1, True, False)


def test_a_database_that_hangs_fails(migrated: str) -> None:
    url = make_url(migrated)
    assert url.port
    with network_to(url.port) as network, network.swallowing():
        there = url.set(host="127.0.0.1", port=network.port)
        code, line = check(there.render_as_string(hide_password=False), DB_TIMEOUT="2")
    assert (code, line) == (1, "The database cannot be used: no answer within 2 s")


def test_a_wrong_setting_fails() -> None:
    code, line = check("mysql://canary")
    assert code == STARTUP_FAILURE
    assert line.startswith("Configuration error: DATABASE_URL must be a PostgreSQL URL")


@pytest.mark.parametrize("option", ["--chekc", "serve"])
def test_an_unknown_option_is_refused(option: str) -> None:
    ended = subprocess.run(
        [sys.executable, "main.py", option],
        cwd=PROJECT,
        env=environment("postgresql://h/d"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (ended.returncode, "usage: main.py" in ended.stderr) == (2, True)
