"""A start loads no library that only other configurations need."""

import subprocess
import sys

import pytest

from support.postgres import new_database
from support.service import PATIENCE, Service, environment, running
from test_migrations import REVISIONS

DEVELOPMENT = {"rich"}
"""What httpx loads if it is installed."""
OPTIONAL = {"alembic", "httpx", "jwks", "limits", "mako", *DEVELOPMENT}
WATCHED = """
import gc, os, server

end = os._exit

def show(code):
    print("frozen:", gc.get_freeze_count() > len(gc.get_objects()), flush=True)
    end(code)

os._exit = show
server.run()
"""
START = f"""
import asyncio, sys, main

async def start():
    async with main.lifespan(main.app):
        print(*sorted({OPTIONAL} & set(sys.modules)))

asyncio.run(start())
"""


def loaded(url: str, **variables: str) -> set[str]:
    started = subprocess.run(
        [sys.executable, "-c", START],
        env=environment(url, **variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return set(started.stdout.splitlines()[-1].split())


def test_only_a_start_that_migrates_loads_alembic() -> None:
    with new_database() as url:
        assert loaded(url) == {"alembic", "mako"}
        assert loaded(url) == set()


@pytest.mark.parametrize(
    ("variable", "value", "modules"),
    [
        ("BETTER_AUTH_URL", "http://127.0.0.1:9", {"httpx", "jwks"}),
        ("RATE_LIMIT", "100/minute", {"limits"}),
    ],
)
def test_what_a_setting_needs_is_loaded(
    service: Service, database_url: str, variable: str, value: str, modules: set[str]
) -> None:
    assert service.answers()  # so the schema is up to date
    assert loaded(database_url, **{variable: value}) - DEVELOPMENT == modules


def test_the_first_start_logs_what_it_does_to_the_schema_and_no_more() -> None:
    with new_database() as url, running(environment(url, LOG_LEVEL="info")) as service:
        lines = [line for line in service.output().splitlines() if "plugin" in line]
        assert lines == []
        assert service.output().count("Running upgrade ") == len(REVISIONS) + 1


def test_the_garbage_collector_leaves_out_what_the_start_has_made(database_url: str) -> None:
    with running(environment(database_url), program=("-c", WATCHED)) as service:
        service.user().create()
        service.stop()
        assert service.output().endswith("frozen: True\n")
