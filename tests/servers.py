"""PostgreSQL servers that a test may stop, freeze and hide behind a network that loses packets."""

import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

import psutil
import psycopg2
from sqlalchemy import make_url

from dev_postgres import EmbeddedPostgres, wait_until_it_answers


class FragileServer(EmbeddedPostgres):
    """A server of the test's own."""

    @property
    def processes(self) -> list[psutil.Process]:
        postmaster = psutil.Process(int((self.data / "postmaster.pid").read_text().split()[0]))
        return [postmaster, *postmaster.children(recursive=True)]

    def end(self, how: signal.Signals) -> None:
        """SIGINT: fast, connections are ended. SIGQUIT: immediate, as a crash."""
        postmaster = self.processes[0]
        postmaster.send_signal(how)
        psutil.wait_procs([postmaster], timeout=60)

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
    with tempfile.TemporaryDirectory(prefix="todo-backend-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        server = FragileServer(folder / "postgres", {"max_connections": "300", **configuration})
        server.start()
        try:
            yield server
        finally:
            server.stop()


class PgBouncer:
    """A transaction pooler with few connections to its server, and no reset between clients."""

    def __init__(self, folder: Path, server_url: str) -> None:
        self.server = make_url(server_url)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
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
            "pool_mode = transaction\nserver_reset_query =\ndefault_pool_size = 4\n"
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
        self._command("PAUSE")
        try:
            yield
        finally:
            self._command("RESUME")

    def _command(self, command: str) -> None:
        # Its console takes plain statements only: no transaction around them.
        with closing(psycopg2.connect(self.admin_url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(command)


class Network:
    """A way to a server that can swallow everything: neither end hears of it."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._stranded: list[Event] = []
        self._flows = Event()
        self._flows.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    @contextmanager
    def swallowing(self) -> Iterator[None]:
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    def strand(self) -> None:
        """Let what is connected now hang for good, as after a failover; new connections work."""
        self._flows.clear()
        self._stranded.append(self._flows)
        self._flows = Event()
        self._flows.set()

    def accept(self) -> None:
        with suppress(OSError):  # the listener is shut down
            while True:
                Thread(target=self._connect, args=[self._listener.accept()[0]]).start()

    def _connect(self, near: socket.socket) -> None:
        flows = self._flows
        flows.wait()
        with near, socket.create_connection(("127.0.0.1", self._target)) as far:
            back = Thread(target=self._pump, args=[far, near, flows])
            back.start()
            self._pump(near, far, flows)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket, flows: Event) -> None:
        with suppress(OSError):
            while content := source.recv(65536):
                flows.wait()
                sink.sendall(content)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for flows in self._stranded:
            flows.set()
        with self._listener:
            self._listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def network_to(port: int) -> Iterator[Network]:
    network = Network(port)
    thread = Thread(target=network.accept)
    thread.start()
    try:
        yield network
    finally:
        network.close()
        thread.join()
