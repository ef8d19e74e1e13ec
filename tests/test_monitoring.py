"""Each 500 and each failed migration is an event for Sentry, without any value of anybody."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import make_url
from uvicorn.config import STARTUP_FAILURE

from support.postgres import connected, new_database
from support.sentry import Sentry, sentry
from support.service import (
    PATIENCE,
    PROJECT,
    Service,
    User,
    assert_clean_log,
    environment,
    running,
    wait_for,
)
from support.tokens import SECRET

CANARIES = ("title-canary", "description-canary", "user-canary", "query-canary", "header-canary")
ALLOWED = {
    *("event_id", "timestamp", "platform", "level", "sdk", "release", "environment"),
    *("transaction", "tags", "exception"),
}
RAISE = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'no % of %', NEW.title, NEW.description; END $$;
CREATE TRIGGER fail BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION fail();
ALTER TABLE tasks ADD CHECK (title NOT LIKE 'bad%');
"""


@pytest.fixture
def tracker() -> Iterator[Sentry]:
    with sentry() as server:
        yield server


def fail(user: User, *calls: tuple[str, str, Any]) -> list[str]:
    """Make calls that are answered with 500; return their request ids."""
    ids = []
    for method, path, body in calls:
        headers = {"X-Canary": "header-canary", "Cookie": "session=header-canary"}
        response = user.call(
            method,
            f"{path}?canary=query-canary",
            headers=headers,
            **({"json": body} if body else {}),
        )
        assert response.status_code == 500, response.text
        ids.append(response.headers["x-request-id"])
    return ids


def classes(event: dict[str, Any]) -> list[str]:
    return [each["type"] for each in event["exception"]["values"]]


def files(event: dict[str, Any]) -> set[str]:
    values = event["exception"]["values"]
    return {frame["filename"] for each in values for frame in each["stacktrace"]["frames"]}


def assert_nothing_of_anybody(server: Sentry, url: str, *more: str) -> None:
    sent = "".join(server.requests)
    password = str(make_url(url).password)
    for canary in (*CANARIES, *more, "eyJ", SECRET, url, password, str(make_url(url).database)):
        assert canary not in sent, canary
    for event in server.events:
        assert event.keys() <= ALLOWED
        for value in event["exception"]["values"]:
            assert value.keys() == {"type", "module", "stacktrace"}


def test_a_500_is_one_event_without_values(tracker: Sentry) -> None:
    with new_database() as url:
        env = environment(url, SENTRY_DSN=tracker.dsn, ENVIRONMENT="staging")
        with running(env) as service:
            user = service.user(f"user-canary/{id(tracker)}")
            task = user.create("title-canary", description="description-canary")
            with connected(url) as cursor:
                cursor.execute(RAISE)
            bad = {"title": "bad title-canary", "description": "description-canary"}
            path = f"/{task['id']}"
            ids = fail(user, ("PUT", path, {"title": "title-canary 2"}), ("POST", "", bad))
            with connected(url) as cursor:
                cursor.execute("ALTER TABLE tasks RENAME TO renamed")
            ids += fail(user, ("GET", path, None), ("DELETE", path, None))
            events = tracker.wait_for_events(4)
            service.stop()
            output = service.output()
        assert_nothing_of_anybody(tracker, url)
        assert_clean_log(output, "header-canary", "query-canary", tracker.dsn)
    by_id = {event["tags"]["request_id"]: event for event in events}
    assert [(by_id[each]["transaction"], classes(by_id[each])[-1]) for each in ids] == [
        ("PUT /api/{user_id}/tasks/{task_id}", "RaiseException"),
        ("POST /api/{user_id}/tasks", "CheckViolation"),
        ("GET /api/{user_id}/tasks/{task_id}", "UndefinedTable"),
        ("DELETE /api/{user_id}/tasks/{task_id}", "UndefinedTable"),
    ]
    assert {event["tags"]["sqlstate"] for event in events} == {"P0001", "23514", "42P01"}
    for event in events:
        assert (event["release"], event["environment"]) == ("todo-backend@1.0.0", "staging")
        assert {"endpoint.py", "pool.py", "queries.py"} <= files(event)
    assert len(tracker.events) == len(ids)


def test_each_500_of_an_outage_is_an_event(tracker: Sentry) -> None:
    url = "postgresql://someone:database-canary@127.0.0.1:1/nowhere"
    with running(environment(url, SENTRY_DSN=tracker.dsn)) as service:
        user = service.user()
        calls = [("GET", "", None), ("GET", "", None), ("HEAD", "", None)]
        ids = fail(user, *calls, ("POST", "", {"title": "title-canary"}))
        service.stop()
        events = tracker.wait_for_events(4)
    assert {event["tags"]["request_id"] for event in events} == set(ids)
    names = sorted(event["transaction"] for event in events)
    assert names == [*["GET /api/{user_id}/tasks"] * 3, "POST /api/{user_id}/tasks"]
    assert_nothing_of_anybody(tracker, url, "127.0.0.1:1", user.id)


def test_what_is_no_500_is_no_event(tracker: Sentry, database_url: str) -> None:
    with running(environment(database_url, SENTRY_DSN=tracker.dsn)) as service:
        user = service.user()
        user.create()
        for path in ("/0", "/canary"):
            assert user.call("GET", path).status_code in {400, 404}
        assert service.client.get(user.path).status_code == 401
        assert service.client.get("/nowhere").status_code == 404
        service.stop()
    assert tracker.requests == []


def test_a_failed_migration_is_an_event(tracker: Sentry) -> None:
    with new_database() as url, connected(url) as cursor:
        cursor.execute("CREATE TABLE tasks (title text)")
        cursor.execute("INSERT INTO tasks VALUES ('title-canary')")
        with running(environment(url, SENTRY_DSN=tracker.dsn)) as service:
            event, *_ = tracker.wait_for_events(1)
            assert "the migration failed" in service.output()
        assert_nothing_of_anybody(tracker, url)
    assert (event["transaction"], classes(event)[-1]) == ("migration", "ProgrammingError")
    assert "DuplicateTable" in classes(event)


# --- a Sentry that does not work ---


def answers_500(service: Service) -> bool:
    return service.user().call("GET").status_code == 500


def test_a_sentry_that_is_away_or_hangs_disturbs_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        for port in (1, hangs.getsockname()[1]):
            env = environment(
                "postgresql://127.0.0.1:1/x", SENTRY_DSN=f"http://key@127.0.0.1:{port}/42"
            )
            with running(env, program=("main.py",)) as service:
                for _ in range(150):  # more than the library's queue holds
                    assert answers_500(service)
                assert service.stop() == 0
                output = service.output()
            # Neither the library's own lines, nor a fault while reporting one.
            assert output.count("Traceback") == output.count("[Internal server error request_id")
            assert "urllib3" not in output
            assert "could not be reported" not in output


# --- settings ---


def started(code: str, **variables: str) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env=environment("postgresql://h/d", LOG_LEVEL="error", **variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return ended.returncode, (ended.stdout + ended.stderr).rstrip("\n")


def test_a_dsn_without_the_package_is_one_line() -> None:
    code = "import sys; sys.modules['sentry_sdk'] = None; import main"
    exit_code, line = started(code, SENTRY_DSN="https://canary@o1.ingest.sentry.io/1")
    assert exit_code == STARTUP_FAILURE
    assert line.endswith(
        "[Configuration error: SENTRY_DSN needs the package sentry-sdk: uv sync --extra sentry]"
    )
    assert "\n" not in line


@pytest.mark.parametrize("extra", [{}, {"SENTRY_DSN": ""}])
def test_without_a_dsn_the_package_is_not_imported(extra: dict[str, str]) -> None:
    code = "import sys, main; print('sentry_sdk' in sys.modules)"
    assert started(code, **extra) == (0, "False")


def test_no_other_variable_makes_it_send_more(tracker: Sentry) -> None:
    """The library reads variables of its own."""
    more = {"SENTRY_TRACES_SAMPLE_RATE": "1", "SENTRY_RELEASE": "canary", "SENTRY_DEBUG": "1"}
    url = "postgresql://127.0.0.1:1/x"
    with running(environment(url, SENTRY_DSN=tracker.dsn, **more)) as service:
        assert answers_500(service)
        service.stop()
        wait_for(lambda: tracker.requests)
    assert (len(tracker.requests), len(tracker.events)) == (1, 1)
    assert "canary" not in tracker.requests[0]
