"""What all measurements share: PostgreSQL, the apps in processes of their own, wrk, the results."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar
from urllib.request import Request, urlopen

import psutil
import psycopg2
from jose import jwt
from psycopg2.extensions import cursor as Cursor  # noqa: N812  # a class

from benchmarks.tasks import WRITERS, DeletePool, Owner
from dev_postgres import EmbeddedPostgres

PROJECT = Path(__file__).parent.parent
LUA = Path(__file__).parent / "wrk.lua"
SECRET = "only-for-benchmarks-0123456789-abcdefghijkl"
PROGRAMS = {
    "service": ["main.py"],
    # Without uvicorn's own log, which would be a second line for each request.
    "baseline": ["-m", "uvicorn", "--no-access-log", "benchmarks.baseline:app"],
    "ceiling": ["-m", "uvicorn", "--no-access-log", "benchmarks.ceiling:app"],
}
# All else, fsync and synchronous_commit above all, is PostgreSQL's default.
CONFIGURATION = {"max_connections": "300"}
START_TIMEOUT = 60
ANSWER_TIMEOUT = 5
# More than any candidate deletes.
DELETES_PER_SECOND = 8000

T = TypeVar("T")


def prepare() -> None:
    """End in good order when told to, and say at once what is missing."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Interrupted"))
    if not shutil.which("wrk"):
        sys.exit("wrk is missing: apt-get install wrk")


@contextlib.contextmanager
def postgres() -> Iterator[EmbeddedPostgres]:
    """Run a PostgreSQL of the benchmark's own, and delete its data."""
    folder = Path(tempfile.mkdtemp(prefix="todo-backend-benchmark-"))
    folder.chmod(0o711)
    server = EmbeddedPostgres(folder / "postgres", CONFIGURATION)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@contextlib.contextmanager
def connected(url: str) -> Iterator[Cursor]:
    """Yield a cursor in autocommit mode."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def new_database(server: EmbeddedPostgres, name: str, template: str = "template0") -> str:
    """Create a database and return its URL."""
    with connected(server.url) as cursor:
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return server.url.removesuffix("postgres") + name


def in_turn(candidates: Sequence[T], number: int) -> Sequence[T]:
    """Return all, in each round another one first, so that no one always follows the same."""
    first = number % len(candidates)
    return [*candidates[first:], *candidates[:first]]


def token(user_id: str) -> str:
    """Sign a token as Better Auth would."""
    now = int(time.time())
    claims = {"sub": user_id, "email": "user@example.com", "name": "John Doe", "iat": now}
    return jwt.encode(claims | {"exp": now + 24 * 3600}, SECRET, "HS256")


def write_users(path: Path, owners: Sequence[Owner]) -> Path:
    """Write the users for wrk.lua, a line each."""
    path.write_text(
        "".join(
            f"{owner.user_id} {owner.first} {owner.step} {owner.count} {token(owner.user_id)}\n"
            for owner in owners
        )
    )
    return path


def environment(database_url: str, port: int = 8000, workers: int = 1) -> dict[str, str]:
    """Return an app's whole environment."""
    return {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database_url,
        "BETTER_AUTH_SECRET": SECRET,
        "ALLOWED_ORIGINS": "http://localhost:3000",
        "LOG_LEVEL": "info",
        "PORT": str(port),
        "UVICORN_PORT": str(port),
        "WEB_CONCURRENCY": str(workers),
    }


@dataclass
class App:
    """One of the programs, run as an operator would."""

    name: str
    database_url: str
    workers: int = 1
    interpreter: Sequence[str] = ()
    errors: int | IO[str] = subprocess.DEVNULL
    process: psutil.Popen = field(init=False)
    url: str = field(init=False)

    def start(self) -> None:
        """Start it on a free port and wait until it listens, without asking it anything."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.process = psutil.Popen(
            [sys.executable, *self.interpreter, *PROGRAMS[self.name]],
            cwd=PROJECT,
            env=environment(self.database_url, port, self.workers),
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while not _listens(port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                # Once more, to show why.
                command = [sys.executable, *PROGRAMS[self.name]]
                environ = environment(self.database_url, port, self.workers)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    subprocess.run(command, cwd=PROJECT, env=environ, check=False, timeout=5)
                sys.exit(f"{self.name} does not start")
            time.sleep(0.002)

    def stop(self) -> None:
        """End it and its workers, which may hang."""
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def tree(self) -> list[psutil.Process]:
        """Return its process and all below."""
        return _tree(self.process)

    def ask(
        self, owner: Owner, path: str = "", method: str = "GET", body: object = None
    ) -> bytes | None:
        """Return the body of the answer, or None if it is an error or does not come."""
        request = Request(
            f"{self.url}/api/{owner.user_id}/tasks{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {token(owner.user_id)}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urlopen(request, timeout=ANSWER_TIMEOUT) as response:
                answer: bytes = response.read()
                return answer
        except OSError:
            return None

    def settles(self, owner: Owner) -> bool:
        """Wait until what was asked before is done; tell whether it answers then."""
        if self.ask(owner, f"/{owner.first}") is None:
            return False
        before, now = -1.0, cpu_seconds(self.process)
        while now > before:
            time.sleep(0.1)
            before, now = now, cpu_seconds(self.process)
        return True


@contextlib.contextmanager
def running(app: App) -> Iterator[App]:
    """Start the app, and end it."""
    try:
        app.start()
        yield app
    finally:
        app.stop()


def migrate(database_url: str) -> None:
    """Let the service make its table."""
    with running(App("service", database_url)):
        pass


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port)).close()
        return True
    return False


def _tree(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time of a process and all its children, those that have ended too."""
    total = 0.0
    for part in _tree(process):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = part.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def postmaster(server: EmbeddedPostgres) -> psutil.Process:
    """Return PostgreSQL's first process."""
    return psutil.Process(int((server.data / "postmaster.pid").read_text().split()[0]))


@dataclass
class Load:
    """What wrk counted, and the CPU time of each request."""

    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    failed: int
    app_cpu_ms: float
    database_cpu_ms: float


@dataclass
class Driver:
    """Drives an app with wrk."""

    readers: Path
    writers: Path
    pool: DeletePool
    database: psutil.Process
    seed: int = 0

    @classmethod
    def make(
        cls, folder: Path, readers: Sequence[Owner], pool: DeletePool, database: psutil.Process
    ) -> "Driver":
        """Write the users' files into the folder."""
        return cls(
            write_users(Path(tempfile.mkstemp(dir=folder)[1]), readers),
            write_users(Path(tempfile.mkstemp(dir=folder)[1]), WRITERS),
            pool,
            database,
        )

    def drive(  # what a measurement is made of
        self, app: App, workload: str, *, connections: int, seconds: int, query: str = ""
    ) -> Load:
        """Run the workload; every answer but 2xx and every broken connection counts as failed."""
        first = self.pool.first(DELETES_PER_SECOND * seconds) if workload == "DELETE" else 0
        options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=10s", f"--script={LUA}"]
        arguments = [workload, self.seed, self.readers, self.writers, first, query]
        before = cpu_seconds(app.process), cpu_seconds(self.database)
        output = subprocess.run(
            ["wrk", *options, app.url, "--", *map(str, arguments)],
            check=True,
            capture_output=True,
            text=True,
            timeout=seconds + START_TIMEOUT,
        ).stdout
        after = cpu_seconds(app.process), cpu_seconds(self.database)
        counted = json.loads(output.splitlines()[-1])
        self.pool.used(counted["deleted"])
        requests = counted["requests"]
        cpu = [
            (end - start) * 1000 / max(1, requests)
            for start, end in zip(before, after, strict=True)
        ]
        return Load(
            requests,
            requests * 1e6 / counted["microseconds"],
            counted["p50"] / 1000,
            counted["p99"] / 1000,
            counted["failed"],
            *cpu,
        )
