"""Two versions of the service, and the migration between them, lose no request."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from support.haproxy import HAProxy, behind_haproxy
from support.postgres import connected, new_database
from support.service import PATIENCE, PROJECT, User, environment

pytestmark = pytest.mark.faults

Sized = Callable[[int, int], int]
Record = Callable[[str, object], None]
CLIENTS = 8
PAUSE = 0.01
"""Seconds between two requests of a client: they leave something for the instances that start."""
FILL = (
    "INSERT INTO tasks (user_id, title) SELECT 'user_' || i %% 10000, 'Buy groceries'"
    " FROM generate_series(1, %s) AS i"
)
NEXT_MIGRATION = '''
"""Add one of each that the rule in docs/deployment.md allows."""

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{}"
branch_labels = None
depends_on = None


def upgrade():
    op.create_table("labels", sa.Column("id", sa.Integer, primary_key=True))
    op.create_index("idx_tasks_title", "tasks", ["title"], if_not_exists=True)
    op.add_column("tasks", sa.Column("note", sa.Text))
    op.add_column("tasks", sa.Column("priority", sa.Integer, nullable=False, server_default="0"))
'''


class Client:
    """A client that writes and reads through the proxy until it is told to stop."""

    def __init__(self, number: int, haproxy: HAProxy) -> None:
        # Half of them with a new connection for each request.
        limits = httpx.Limits(max_keepalive_connections=number % 2)
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{haproxy.port}", timeout=PATIENCE, limits=limits
        )
        self.user = User(f"versions_{number}", client)
        self.toggled = 0
        self.created: list[int] = []
        self.results: Counter[object] = Counter()
        self.longest = 0.0

    def call_until(self, stop: Event) -> None:
        with self.user.client:
            while not stop.is_set():
                self.round()

    def round(self) -> None:
        """Create a task, repeat that, toggle it, read it, and read a page."""
        key = {"Idempotency-Key": f"key-{len(self.created)}"}
        first = self.call("POST", json={"title": "x"}, headers=key)
        second = self.call("POST", json={"title": "x"}, headers=key)
        if first is None or second is None or first.content != second.content:
            self.results["a repetition is not replayed"] += 1
            return
        task = first.json()["id"]
        self.created.append(task)
        self.call("PATCH", f"/{task}/complete")
        got = self.call("GET", f"/{task}")
        page = self.call("GET", params={"limit": "5", "sort": "updated"})
        if got is None or page is None or got.json() != page.json()["tasks"][0]:
            self.results["a task is not what it was changed to"] += 1

    def call(self, method: str, path: str = "", **kwargs: object) -> httpx.Response | None:
        time.sleep(PAUSE)
        began = time.monotonic()
        try:
            response = self.user.call(method, path, **kwargs)
        except httpx.TransportError as exc:
            self.results[repr(exc)] += 1
            return None
        self.longest = max(self.longest, time.monotonic() - began)
        self.results[response.status_code] += 1
        return response if response.is_success else None


def revisions(project: Path) -> list[Path]:
    return sorted((project / "migrations" / "versions").glob("*.py"))


def without_the_newest_migration(clone: Path) -> tuple[Path, Path]:
    """Return this version's predecessor and this version.

    If the newest migration adds what `models.py` has, it has to be taken out of the copy's too.
    """
    revisions(clone)[-1].unlink()
    return clone, PROJECT


def with_another_migration(clone: Path) -> tuple[Path, Path]:
    """Return this version and its successor."""
    newest = revisions(clone)[-1].name[:4]
    migration = clone / "migrations" / "versions" / "9999_next.py"
    migration.write_text(NEXT_MIGRATION.format(newest), encoding="utf-8")
    return PROJECT, clone


@pytest.mark.parametrize("versions", [without_the_newest_migration, with_another_migration])
def test_a_deploy_over_a_migration_and_its_rollback_lose_no_request(
    clone: Path,
    tmp_path: Path,
    versions: Callable[[Path], tuple[Path, Path]],
    sized: Sized,
    record_property: Record,
) -> None:
    old, new = versions(clone)
    tasks = sized(50_000, 1_000_000)
    stop = Event()
    with new_database() as url, connected(url) as cursor:
        env = environment(url, LOG_LEVEL="info")
        with behind_haproxy(env, tmp_path, old) as haproxy, ThreadPoolExecutor(CLIENTS) as threads:
            assert revision(cursor) == revisions(old)[-1].name[:4]
            cursor.execute(FILL, [tasks])
            clients = [Client(number, haproxy) for number in range(CLIENTS)]
            running = [threads.submit(client.call_until, stop) for client in clients]
            try:
                # Deployed, rolled back and deployed again: one instance after the other.
                for version in (new, old, new):
                    for number in range(2):
                        haproxy.instances[number].project = version
                        assert haproxy.restart(number) == 0
                    assert revision(cursor) == revisions(new)[-1].name[:4]
            finally:
                stop.set()
            for each in running:
                each.result()
        results = sum((client.results for client in clients), Counter())
        assert set(results) == {200, 201}, results
        created = [task for client in clients for task in client.created]
        cursor.execute("SELECT id FROM tasks WHERE completed")
        assert sorted(task for (task,) in cursor.fetchall()) == sorted(created)
        cursor.execute("SELECT count(*) FROM tasks")
        assert cursor.fetchone() == (tasks + len(created),)
    log = "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("*.log"))
    assert log.count("The schema is of a newer version of the service") == 2
    assert "ERROR" not in log
    longest = max(client.longest for client in clients)
    record_property(
        f"two instances are deployed over a migration ({versions.__name__}), rolled back and"
        f" deployed again, {tasks:,} tasks",
        f"{3 * 2} restarts | {results.total():,} requests, 0 failed, nothing lost or twice |"
        f" longest request {longest:.1f} s",
    )


def revision(cursor: Any) -> str:  # noqa: ANN401  # psycopg2's
    cursor.execute("SELECT version_num FROM alembic_version")
    [(number,)] = cursor.fetchall()
    return str(number)
