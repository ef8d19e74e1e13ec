"""The commands of CLAUDE.md for a new column make a migration that the service applies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.pages import blocks, read
from support.postgres import connected
from support.service import wait_for
from test_dev import launched

pytestmark = pytest.mark.slow

[NEW_COLUMN] = [code for code in blocks(read("CLAUDE.md"), "sh") if "alembic revision" in code]
COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_name = 'tasks'"


def test_a_new_column_needs_a_field_and_the_documented_commands(clone: Path) -> None:
    models = clone / "models.py"
    with launched(clone) as launch:
        launch.create_task()
        text = models.read_text(encoding="utf-8")
        field = "    completed: bool"
        assert text.count(field) == 1
        models.write_text(text.replace(field, f"    priority: int | None = None\n{field}"), "utf-8")
        script = f"{NEW_COLUMN}\nprintenv DATABASE_URL"
        # uv would make an environment for the clone; this one has everything.
        ours = {"UV_PROJECT_ENVIRONMENT": sys.prefix, "UV_NO_SYNC": "1"}
        run = subprocess.run(
            ["sh", "-eu"],
            input=script,
            cwd=clone,
            env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]} | ours,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        with connected(run.stdout.split()[-1]) as cursor:

            def applied() -> bool:
                cursor.execute(COLUMNS)
                return ("priority",) in cursor.fetchall()

            wait_for(applied)
        [migration] = (clone / "migrations" / "versions").glob("*add_priority*")
        assert "add_column" in migration.read_text(encoding="utf-8")
