"""A PgBouncer that a test may kill, freeze and pause."""

import os
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg2
from sqlalchemy import make_url

from dev_postgres import wait_until_it_answers
from support.network import free_port


class PgBouncer:
    """A transaction pooler with few connections to its server, and no reset between clients."""

    def __init__(self, folder: Path, server_url: str, size: int = 4) -> None:
        self.server = make_url(server_url)
        self.port = free_port()
        self.url = self.server.set(port=self.port, host="127.0.0.1").render_as_string(
            hide_password=False
        )
        self.admin_url = self.server.set(port=self.port, database="pgbouncer").render_as_string(
            hide_password=False
        )
        self.settings = folder / "pgbouncer.ini"
        users = folder / "users.txt"
        users.write_text(f'"{self.server.username}" "{self.server.password}"\n')
        self.settings.write_text(
            f"[databases]\n* = host={self.server.host} port={self.server.port}\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {users}\n"
            f"admin_users = {self.server.username}\nmax_client_conn = 1000\n"
            f"pool_mode = transaction\nserver_reset_query =\ndefault_pool_size = {size}\n"
            # PAUSE may interrupt a login of its own, after which it would wait for 15 s.
            "server_login_retry = 1\n"
        )
        self.process: psutil.Popen | None = None

    def start(self) -> None:
        program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "PgBouncer is not installed: apt-get install pgbouncer"
        # It refuses to run as root.
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self.process = psutil.Popen([program, "-q", *user, str(self.settings)])
        wait_until_it_answers(self.url)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        assert self.process
        self.process.suspend()
        try:
            yield
        finally:
            self.process.resume()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let it hold back all statements, as an operator does who moves the server."""
        with self._console() as console:
            console.execute("PAUSE")
        try:
            yield
        finally:
            with self._console() as console:
                console.execute("RESUME")

    def waiting(self) -> int:
        """Count the clients that wait for a server connection."""
        with self._console() as console:
            console.execute("SHOW POOLS")
            column = [each.name for each in console.description].index("cl_waiting")
            return sum(row[column] for row in console.fetchall())

    @contextmanager
    def _console(self) -> Iterator[Any]:
        # It takes plain statements only: no transaction around them.
        with closing(psycopg2.connect(self.admin_url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                yield cursor
