"""The apps that are measured, each in processes of its own, and wrk, which drives them."""

import http.client
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import psutil

from benchmarks.data import Database, Owner, Postgres
from benchmarks.operations import SECRET, Operation, Request, requests

PROJECT = Path(__file__).parent.parent
LUA = Path(__file__).parent / "requests.lua"
FASTIFY = Path(__file__).parent / "fastify"
PROGRAMS: dict[str, list[str]] = {
    "service": [sys.executable, "main.py"],
    # Without uvicorn's own log, which would be a second line for each request.
    "baseline": [
        *(sys.executable, "-m", "uvicorn", "--no-access-log", "benchmarks.baseline:app"),
    ],
}
START_TIMEOUT = 60
ANSWER_TIMEOUT = 5

T = TypeVar("T")


def prepare() -> None:
    """Clean up also when the program is told to end, and say at once what is missing."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Interrupted"))
    if not shutil.which("wrk"):
        sys.exit("wrk is missing: apt-get install wrk")


@dataclass
class Load:
    """What wrk counted in a run, and the CPU time of each request."""

    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    failed: int
    app_cpu_us: float
    database_cpu_us: float


@dataclass
class App:
    """One of the programs, run as an operator would."""

    name: str
    database_url: str
    workers: int = 1
    program: str = "service"
    folder: Path = PROJECT
    process: psutil.Popen = field(init=False)
    port: int = field(init=False)

    def start(self) -> None:
        """Start it on a free port and wait until it listens, without asking it anything."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        environment = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": self.database_url,
            "BETTER_AUTH_SECRET": SECRET,
            "ALLOWED_ORIGINS": "http://localhost:3000",
            "LOG_LEVEL": "info",
            "PORT": str(self.port),
            "UVICORN_PORT": str(self.port),
            "WEB_CONCURRENCY": str(self.workers),
        }
        start = partial(psutil.Popen, PROGRAMS[self.program], cwd=self.folder, env=environment)
        self.process = start(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process = start()  # once more, to show why
                with suppress(psutil.TimeoutExpired):
                    self.process.wait(timeout=5)
                sys.exit(f"{self.name} does not start")
            time.sleep(0.002)

    def stop(self) -> None:
        """End it and its workers, which may hang."""
        for process in tree(self.process):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def _listens(self) -> bool:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port)).close()
            return True
        return False

    def send(self, request: Request) -> tuple[int, str, bytes]:
        """Return the status, the ETag and the body of the response; status 0 if there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_TIMEOUT)
        try:
            connection.request(request.method, request.path, request.body, request.headers)
            response = connection.getresponse()
            return response.status, response.getheader("ETag", ""), response.read()
        except (OSError, http.client.HTTPException):
            return 0, "", b""
        finally:
            connection.close()

    def settles(self, request: Request) -> bool:
        """Wait until what was asked before is done; tell whether it responds then."""
        if not self.send(request)[0]:
            return False
        before, now = -1.0, cpu_seconds(self.process)
        while now > before:
            time.sleep(0.1)
            before, now = now, cpu_seconds(self.process)
        return True

    def check(self, operation: Operation, database: Database) -> bytes:
        """Return the body of the operation's response; end unless the status is as expected."""
        request = next(requests(operation, database, self.etag))
        status, _, body = self.send(request)
        if status != operation.status:
            sys.exit(f"{self.name}, {operation.name}: {status} instead of {operation.status}")
        return body

    def etag(self, request: Request) -> str:
        """Return the ETag of the response."""
        return self.send(request)[1]

    def drive(  # noqa: PLR0913  # what a measurement is made of
        self,
        operation: Operation,
        database: Database,
        *,
        connections: int,
        seconds: int,
        seed: int = 0,
        owners: Sequence[Owner] = (),
    ) -> Load:
        """Run wrk; every status above 399 and every broken connection counts as failed."""
        options = [f"-c{connections}", f"-d{seconds}s", "-t1", "--timeout=10s", f"--script={LUA}"]
        made = requests(operation, database, self.etag, owners=owners, seconds=seconds, seed=seed)
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"\x1e".join(request.raw() for request in made))
            file.flush()
            before = cpu_seconds(self.process), cpu_seconds(postmaster(database.server))
            output = subprocess.run(
                ["wrk", *options, f"http://127.0.0.1:{self.port}", "--", file.name],
                check=True,
                capture_output=True,
                text=True,
                timeout=seconds + START_TIMEOUT,
            ).stdout
            after = cpu_seconds(self.process), cpu_seconds(postmaster(database.server))
        counted = json.loads(output.splitlines()[-1])
        number = counted["requests"]
        cpu = ((b - a) * 1e6 / max(1, number) for a, b in zip(before, after, strict=True))
        return Load(
            number,
            number * 1e6 / counted["microseconds"],
            counted["p50"] / 1000,
            counted["p99"] / 1000,
            counted["failed"],
            *cpu,
        )


@contextmanager
def running(app: App) -> Iterator[App]:
    """Start the app, and end it."""
    try:
        app.start()
        yield app
    finally:
        app.stop()


def migrate(url: str, folder: Path = PROJECT) -> None:
    """Let the service of a folder make its tables."""
    with running(App("service", url, folder=folder)):
        pass


def tree(process: psutil.Process) -> list[psutil.Process]:
    """Return the process and all below."""
    with suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU time of a process and all its children, those that have ended too."""
    total = 0.0
    for part in tree(process):
        with suppress(psutil.NoSuchProcess):
            times = part.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def postmaster(server: Postgres) -> psutil.Process:
    """Return PostgreSQL's first process."""
    return psutil.Process(int((server.data / "postmaster.pid").read_text().split()[0]))


def in_turn(candidates: Sequence[T], number: int) -> Sequence[T]:
    """Return all, in each round another one first, so that no one always follows the same."""
    first = number % len(candidates)
    return [*candidates[first:], *candidates[:first]]
