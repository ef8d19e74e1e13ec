"""The commands of docs/deployment.md that need no platform do what they say."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from dev_postgres import BINARIES
from support.postgres import new_database
from support.service import PROJECT, environment, running

GUIDE = (PROJECT / "docs" / "deployment.md").read_text(encoding="utf-8")


def command(start: str) -> str:
    """Find the one line that begins so."""
    (line,) = (line for line in GUIDE.splitlines() if line.startswith(f"{start} "))
    return line


def test_a_dump_restores_every_task(tmp_path: Path) -> None:
    with new_database() as url, new_database() as other:
        with running(environment(url)) as service:
            tasks = [service.user("someone").create(title) for title in ("Milk", "Élan ✓")]
        env = {"DATABASE_URL": url, "NEW_DATABASE_URL": other}
        env["PATH"] = f"{BINARIES}:{os.environ['PATH']}"
        for start in ("pg_dump", "pg_restore"):
            subprocess.run(["sh", "-c", command(start)], cwd=tmp_path, env=env, check=True)
        with running(environment(other)) as service:
            user = service.user("someone")
            assert user.list() == tasks[::-1]
            # The sequence of the ids has been restored too.
            assert user.create()["id"] > tasks[-1]["id"]
            assert "Schema is up to date" in service.output()


@pytest.mark.parametrize("origin", re.findall(r'ALLOWED_ORIGINS="([^"]*\*[^"]*)"', GUIDE))
def test_the_origins_of_previews_are_accepted(origin: str) -> None:
    env = environment("postgresql://u:p@127.0.0.1:1/x", ALLOWED_ORIGINS=origin)
    with running(env) as service:
        preview = "https://app-git-branch-team.vercel.app"
        assert preview in GUIDE
        answer = service.client.get("/livez", headers={"Origin": preview})
        assert answer.headers["access-control-allow-origin"] == preview
