"""The commands of docs/deployment.md that need no platform do what they say."""

import os
import re
import subprocess
from pathlib import Path

import alembic.command
import pytest

from dev_postgres import BINARIES
from support.postgres import connected, new_database
from support.service import PROJECT, environment, running
from test_database import run_alembic

INDEXES = (
    "SELECT indexrelid, pg_get_indexdef(indexrelid) FROM pg_index"
    " WHERE indrelid = 'tasks'::regclass AND indisvalid"
)
GUIDE = (PROJECT / "docs" / "deployment.md").read_text(encoding="utf-8")


def commands(program: str) -> list[str]:
    """Find the lines that begin with a program."""
    return [line for line in GUIDE.splitlines() if line.startswith(f"{program} ")]


def run(command: str, folder: Path, **variables: str) -> None:
    """Run it as a shell does, with the programs of the server's version."""
    env = {**variables, "PATH": f"{BINARIES}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", command], cwd=folder, env=env, check=True)


def test_a_dump_restores_every_task(tmp_path: Path) -> None:
    with new_database() as url, new_database() as other:
        with running(environment(url)) as service:
            tasks = [service.user("someone").create(title) for title in ("Milk", "Élan ✓")]
        for program in ("pg_dump", "pg_restore"):
            [command] = commands(program)
            run(command, tmp_path, DATABASE_URL=url, NEW_DATABASE_URL=other)
        with running(environment(other)) as service:
            user = service.user("someone")
            assert user.list() == tasks[::-1]
            # The sequence of the ids has been restored too.
            assert user.create()["id"] > tasks[-1]["id"]
            assert "Schema is up to date" in service.output()


def test_the_indexes_of_a_large_table_are_built_before_the_migration(tmp_path: Path) -> None:
    with new_database() as url:
        run_alembic(url, alembic.command.upgrade, "0002")
        with connected(url) as cursor:
            cursor.execute(INDEXES)
            before = dict(cursor.fetchall())
            for command in commands("psql"):
                run(command, tmp_path, DATABASE_URL=url)
            cursor.execute(INDEXES)
            built = dict(cursor.fetchall())
            run_alembic(url, alembic.command.upgrade, "0003")
            cursor.execute(INDEXES)
            assert dict(cursor.fetchall()) == built
        # The schema's other test says that these are the indexes of the model.
        run_alembic(url, alembic.command.check)
    assert len(built) == len(before) + 2


@pytest.mark.parametrize("origin", re.findall(r'ALLOWED_ORIGINS="([^"]*\*[^"]*)"', GUIDE))
def test_the_origins_of_previews_are_accepted(origin: str) -> None:
    env = environment("postgresql://u:p@127.0.0.1:1/x", ALLOWED_ORIGINS=origin)
    with running(env) as service:
        preview = "https://app-git-branch-team.vercel.app"
        assert preview in GUIDE
        answer = service.client.get("/livez", headers={"Origin": preview})
        assert answer.headers["access-control-allow-origin"] == preview
