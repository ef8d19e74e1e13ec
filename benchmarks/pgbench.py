"""The same statements without a service: what PostgreSQL itself does, measured by its pgbench."""

import re
import subprocess
from pathlib import Path

from psycopg2.extensions import cursor as Cursor  # noqa: N812  # a class

from benchmarks.tasks import DESCRIPTION, TASKS_PER_USER, TITLE, WRITERS
from dev_postgres import BINARIES

COLUMNS = "id, user_id, title, description, completed, created_at, updated_at"
NOW = "timezone('utc', clock_timestamp())"
OWNED = "WHERE id = :id AND user_id = 'bench_:user'"
READER = rf"""
\set user random(1, :users)
\set id :user + :users * random(0, {TASKS_PER_USER - 1})
"""
SCRIPTS = {
    "W1": f"{READER}SELECT {COLUMNS} FROM tasks {OWNED};",
    "W2": f"{READER}SELECT {COLUMNS} FROM tasks WHERE user_id = 'bench_:user'"
    " ORDER BY created_at DESC, id DESC;",
    "W3": rf"\set user random(1, {len(WRITERS)})"
    "\nINSERT INTO tasks (user_id, title, description)"
    f" VALUES ('writer_:user', '{TITLE}', '{DESCRIPTION}') RETURNING {COLUMNS};",
    "W4": f"{READER}UPDATE tasks SET completed = NOT completed, updated_at = {NOW} {OWNED}"
    f" RETURNING {COLUMNS};",
    "PUT": f"{READER}UPDATE tasks SET title = '{TITLE}', completed = true, updated_at = {NOW}"
    f" {OWNED} RETURNING {COLUMNS};",
    # Each client counts for itself: no two delete the same task.
    "DELETE": "\\set id :first + :client_id + :clients * :n\n\\set n :n + 1\n"
    f"DELETE FROM tasks WHERE id = :id AND user_id = '{WRITERS[0].user_id}' RETURNING id;",
}
DELETES_PER_SECOND = 15_000
"""More than it manages; deletions that find nothing would be too fast."""
WEIGHTS = {"W1": 60, "W2": 20, "W3": 10, "W4": 10}
"""The mix, in per cent."""


def quick_login(cursor: Cursor, url: str) -> str:
    """Return the URL for a user whose password costs no time: pgbench's clock runs meanwhile."""
    cursor.execute("SET scram_iterations = 1")
    cursor.execute("CREATE ROLE pgbench SUPERUSER LOGIN PASSWORD 'pgbench'")
    cursor.execute("RESET scram_iterations")
    address = url.partition("@")[2]
    return f"postgresql://pgbench:pgbench@{address}"


def duration(clients: int, seconds: int) -> int:
    """Return the seconds to ask for, those for connecting included."""
    return seconds + clients // 64


def run(  # noqa: PLR0913  # what a measurement is made of
    url: str, workload: str, *, folder: Path, users: int, clients: int, seconds: int, first: int
) -> tuple[int, float]:
    """Return the number of transactions, and how many they were in a second."""
    files = []
    for name, weight in (WEIGHTS if workload == "MIX" else {workload: 1}).items():
        script = folder / f"{name}.sql"
        script.write_text(SCRIPTS[name] + "\n")
        files.append(f"--file={script}@{weight}")
    variables = {"users": users, "clients": clients, "first": first, "n": 0}
    output = subprocess.run(
        [
            BINARIES / "pgbench",
            "--no-vacuum",
            f"--client={clients}",
            f"--time={duration(clients, seconds)}",
            *files,
            *(f"--define={name}={value}" for name, value in variables.items()),
            url,
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = re.search(r"processed: (\d+)\n.*?tps = ([\d.]+)", output, re.DOTALL)
    assert found, output
    return int(found[1]), float(found[2])
