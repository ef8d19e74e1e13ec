"""PostgreSQL: databases of a test's own, and servers that a test may stop and freeze."""

import os
import signal
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg2
from sqlalchemy import make_url

from dev_postgres import EmbeddedPostgres
from support.network import free_port
from support.service import PATIENCE


@contextmanager
def passable_folder() -> Iterator[Path]:
    """Make a folder that the user whom PostgreSQL runs as may enter.

    pytest's own are not: at each start it closes the one above all of them to other users.
    """
    with tempfile.TemporaryDirectory(prefix="todo-backend-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


@contextmanager
def connected(url: str) -> Iterator[Any]:
    """Yield a cursor in autocommit mode."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


@contextmanager
def new_database(encoding: str = "UTF8") -> Iterator[str]:
    """Create an empty database whose sessions are far from UTC, and yield its URL."""
    server_url = os.environ["TEST_DATABASE_URL"]
    name = f"test_{uuid.uuid4().hex}"
    with connected(server_url) as cursor:
        cursor.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"
        )
        cursor.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Kathmandu'")
    try:
        url = make_url(server_url).set(database=name)
        yield url.render_as_string(hide_password=False)
    finally:
        with connected(server_url) as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def waiting_for_locks(cursor: Any) -> int:  # noqa: ANN401  # psycopg2's
    """Count the statements of the cursor's database that wait for a lock."""
    cursor.execute(
        "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
        " WHERE datname = current_database() AND NOT granted"
    )
    return int(cursor.fetchone()[0])


class FragileServer(EmbeddedPostgres):
    """A server of the test's own."""

    def __init__(self, folder: Path, configuration: Mapping[str, str] | None = None) -> None:
        super().__init__(folder, configuration)
        self.port = free_port()

    @property
    def processes(self) -> list[psutil.Process]:
        postmaster = psutil.Process(int((self.data / "postmaster.pid").read_text().split()[0]))
        return [postmaster, *postmaster.children(recursive=True)]

    def end(self, how: signal.Signals) -> None:
        """SIGINT: fast, connections are ended. SIGQUIT: immediate, as a crash."""
        postmaster = self.processes[0]
        postmaster.send_signal(how)
        postmaster.wait(timeout=PATIENCE)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        processes = self.processes
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.resume()


@contextmanager
def fragile_server(**configuration: str) -> Iterator[FragileServer]:
    with passable_folder() as folder:
        server = FragileServer(folder / "postgres", {"max_connections": "300", **configuration})
        server.start()
        try:
            yield server
        finally:
            server.stop()
