"""The apps that are measured, each in processes of its own, and wrk, which drives them."""

import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path

import psutil

from benchmarks.data import WRITERS, Database, Owner
from benchmarks.operations import OPERATIONS, SECRET, Operation, Request, token

PROJECT = Path(__file__).parent.parent
LUA = Path(__file__).parent / "requests.lua"
FASTIFY = Path(__file__).parent / "fastify"
PROGRAMS: dict[str, list[str]] = {
    "service": [sys.executable, "main.py"],
    # Without uvicorn's own log, which would be a second line for each request.
    "baseline": [sys.executable, *["-m", "uvicorn", "--no-access-log", "benchmarks.baseline:app"]],
    "fastify": ["node", str(FASTIFY / "server.mjs")],
}
REPEATED = 4000
"""How many different requests an operation has; they are sent over and over."""
SENT_ONCE = 10_000
"""Where none may be sent twice, how many there are for each second: more than any app answers."""
CONDITIONAL = 200
"""Where each needs an ETag first."""
START_TIMEOUT = 60
ANSWER_TIMEOUT = 10


def prepare() -> None:
    """Clean up also when the program is told to end, and say at once what is missing."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Interrupted"))
    if not shutil.which("wrk"):
        sys.exit("wrk is missing: apt-get install wrk")


@dataclass
class Load:
    """What wrk counted in a run, and the CPU time of each request."""

    requests_per_second: float
    app_cpu_us: float
    database_cpu_us: float
    p50_ms: float
    p99_ms: float
    failed: int
    hung: bool
    """Whether it did not respond ten seconds later either."""


@dataclass
class App:
    """One of the programs, run as an operator would."""

    name: str
    database: Database
    program: str = "service"
    workers: int = 1
    folder: Path = PROJECT
    owners: Sequence[Owner] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    process: psutil.Popen = field(init=False)
    port: int = field(init=False)

    def start(self) -> None:
        """Start it on a free port and wait until it listens, without asking it anything."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        environment = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": self.database.url,
            "BETTER_AUTH_SECRET": SECRET,
            "ALLOWED_ORIGINS": "http://localhost:3000",
            "LOG_LEVEL": "info",
            "PORT": str(self.port),
            "UVICORN_PORT": str(self.port),
            "WEB_CONCURRENCY": str(self.workers),
            **self.variables,
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

    def requests(self, operation: Operation, seconds: int = 1, seed: int = 0) -> Iterator[Request]:
        """Make the requests of a run of so many seconds; the same seed makes the same ones."""
        chance = random.Random(seed)
        once = operation.has("{unique}") or operation.has("{deletable}")
        number = SENT_ONCE * seconds if once else REPEATED
        users = WRITERS if operation.method == "POST" else self.owners or self.database.readers
        deletable: Sequence[int] = range(number)
        if operation.has("{deletable}"):
            deletable, users = self.database.deletable(number), WRITERS[:1]
        bodies = [json.dumps(body).encode() for body in operation.bodies] or [b""]
        for turn in range(CONDITIONAL if operation.has("{etag}") else number):
            owner = chance.choice(users)
            task = owner.first + owner.step * chance.randrange(owner.count or 1)
            known = {"id": task, "deletable": deletable[turn], "unique": uuid.uuid4()}
            path = f"/api/{owner.user_id}/tasks" + operation.path.format(**known)
            common = {"Authorization": f"Bearer {token(owner.user_id)}"}
            if body := chance.choice(bodies):
                common["Content-Type"] = "application/json"
            if operation.has("{etag}"):
                known["etag"] = self.send(Request("GET", path, common))[1]
            special = {name: text.format(**known) for name, text in operation.headers.items()}
            yield Request(operation.method, path, common | special, body)

    def check(self, operation: Operation) -> bytes:
        """Return the body of the operation's response; end unless the status is as expected."""
        request = next(self.requests(operation))
        status, _, body = self.send(request)
        if status != operation.status:
            sys.exit(f"{self.name}, {operation.name}: {status} instead of {operation.status}")
        return body

    def settles(self) -> bool:
        """Wait until what was asked before is done; tell whether it responds then."""
        request = next(self.requests(OPERATIONS["get"]))
        if not self.send(request)[0]:
            return False
        before, now = -1.0, cpu_seconds(self.process)
        while now > before:
            time.sleep(0.1)
            before, now = now, cpu_seconds(self.process)
        return True

    def drive(self, operation: Operation, connections: int, seconds: int, seed: int = 0) -> Load:
        """Run wrk; every status above 399 and every broken connection counts as failed."""
        options = [f"-c{connections}", f"-d{seconds}s", "-t1", "--timeout=10s", f"--script={LUA}"]
        made = self.requests(operation, seconds, seed)
        first = int((self.database.server.data / "postmaster.pid").read_text().split()[0])
        watched = self.process, psutil.Process(first)
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"\x1e".join(request.raw() for request in made))
            file.flush()
            before = [cpu_seconds(process) for process in watched]
            output = subprocess.run(
                ["wrk", *options, f"http://127.0.0.1:{self.port}", "--", file.name],
                check=True,
                stdout=subprocess.PIPE,
            ).stdout
            after = [cpu_seconds(process) for process in watched]
        counted = json.loads(output.splitlines()[-1])
        number = counted["requests"]
        app, postgresql = (
            (b - a) * 1e6 / max(1, number) for a, b in zip(before, after, strict=True)
        )
        return Load(
            requests_per_second=number * 1e6 / counted["microseconds"],
            app_cpu_us=app,
            database_cpu_us=postgresql,
            p50_ms=counted["p50"] / 1000,
            p99_ms=counted["p99"] / 1000,
            failed=counted["failed"],
            hung=not number or not self.settles(),
        )


@contextmanager
def running(app: App) -> Iterator[App]:
    """Start the app, and end it."""
    try:
        app.start()
        yield app
    finally:
        app.stop()


def migrate(database: Database, folder: Path = PROJECT) -> None:
    """Let the service of a folder make its tables."""
    with running(App("service", database, folder=folder)):
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


Loads = dict[tuple[str, str], list[Load]]
"""By operation and app."""


def measure(
    apps: Sequence[App], operations: Sequence[Operation], connections: int, options: Namespace
) -> Loads:
    """Let the apps take turns with each operation, after a round to warm up."""
    loads: Loads = {(operation.name, app.name): [] for operation in operations for app in apps}
    for number in range(0 if options.smoke else -1, options.rounds):
        # In each round another app is first, so that none always follows the same.
        turn = number % len(apps)
        for operation, app in product(operations, [*apps[turn:], *apps[:turn]]):
            own = loads[operation.name, app.name]
            if (operation.service_only and app.program != "service") or (own and own[-1].hung):
                continue
            app.check(operation)
            load = app.drive(operation, connections, options.seconds, number)
            if number >= 0:
                own.append(load)
            if load.hung:
                app.stop()
                app.start()
            if (load.failed or load.hung) and app.program != "baseline":
                sys.exit(f"No result: {app.name}, {operation.name}: {load.failed} failed")
        print(f"{connections} connections: round {number + 1}", file=sys.stderr)
    return {key: own for key, own in loads.items() if own}
