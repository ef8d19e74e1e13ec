"""A real PostgreSQL, the real service over HTTP, and users with real signed tokens."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg2
import pytest
from sqlalchemy import make_url
from tokens import SECRET, signed

from embedded import EmbeddedPostgres

PROJECT = Path(__file__).parent.parent
ORIGIN = "http://localhost:3000"
LINE = re.compile(
    r"\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] \[(DEBUG|INFO|WARNING|ERROR|CRITICAL)\]"
    r" \[[^][ ]+\] \[(-|[A-Z]+ [^][ ]+)\] \[.*\]"
)
# Every call of one task: method, what follows its id, body.
ITEM_CALLS: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("PUT", "", {"title": "x"}),
    ("PUT", "", {}),
    ("DELETE", "", None),
    ("PATCH", "/complete", None),
]
UNLIMITED = httpx.Limits(max_connections=None)
SERVER = pytest.StashKey[EmbeddedPostgres]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="as often as docs/reliability.md says")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Run what measures or fills the machine alone."""
    return 0 if config.option.markexpr in {"faults", "fuzz", "pooler"} else None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import what needs the packages of the group `fuzz` only when it is asked for."""
    return (collection_path.name == "test_fuzz.py" and config.option.markexpr != "fuzz") or None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests measured, as rows of a table."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            terminalreporter.line(f"| {name} | {value} |")


def pytest_configure(config: pytest.Config) -> None:
    """Start one server for the whole run, unless the developer names one."""
    if hasattr(config, "workerinput") or os.environ.get("TEST_DATABASE_URL"):
        return
    folder = Path(tempfile.mkdtemp(prefix="todo-backend-tests-"))
    folder.chmod(0o711)
    server = EmbeddedPostgres(folder / "postgres", {"fsync": "off", "max_connections": "300"})
    config.stash[SERVER] = server
    server.start()
    os.environ["TEST_DATABASE_URL"] = server.url


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server and delete its data."""
    if server := config.stash.get(SERVER, None):
        del os.environ["TEST_DATABASE_URL"]
        server.stop()
        shutil.rmtree(server.folder.parent)


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
def new_database() -> Iterator[str]:
    """Create an empty database whose sessions are far from UTC, and yield its URL."""
    server_url = os.environ["TEST_DATABASE_URL"]
    name = f"test_{uuid.uuid4().hex}"
    with connected(server_url) as cursor:
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        cursor.execute(f"ALTER DATABASE {name} SET timezone = 'Asia/Kathmandu'")
    try:
        url = make_url(server_url).set(database=name)
        yield url.render_as_string(hide_password=False)
    finally:
        with connected(server_url) as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def environment(database_url: str, **variables: str) -> dict[str, str]:
    """Return a whole environment for the service, free of the developer's own."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {
        "DATABASE_URL": database_url,
        "BETTER_AUTH_SECRET": SECRET,
        "ALLOWED_ORIGINS": f"{ORIGIN}/, https://app.example.com",
        "LOG_LEVEL": "debug",
        "ENVIRONMENT": "test",
        "PORT": "8000",
        "DB_POOL_SIZE": "5",
        "DB_MAX_OVERFLOW": "0",
        **variables,
    }


@dataclass
class Service:
    """A running service."""

    process: subprocess.Popen[bytes]
    log: Path
    url: str
    client: httpx.Client

    def answers(self) -> bool:
        assert self.process.poll() is None, self.output()
        try:
            self.client.head("/openapi.json")
        except httpx.TransportError:
            return False
        return True

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def user(self, user_id: str | None = None) -> "User":
        return User(user_id or f"user_{uuid.uuid4().hex}", self.client)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)


@contextmanager
def running(
    env: Mapping[str, str], *options: str, program: tuple[str, ...] = ("-m", "uvicorn", "main:app")
) -> Iterator[Service]:
    """Start the service on a free port, wait until it answers, and end it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    if "uvicorn" in program:
        options = ("--port", port, *options)
    log = Path(tempfile.mkstemp(prefix="todo-backend-", suffix=".log")[1])
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *program, *options],
            cwd=PROJECT,
            env={**env, "PORT": port},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=30, limits=UNLIMITED) as client:
            service = Service(process, log, url, client)
            wait_for(service.answers, 30)
            yield service
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        log.unlink()


def wait_for(condition: Callable[[], Any], seconds: float = 10) -> Any:  # noqa: ANN401
    """Return the condition's value as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return value


def assert_clean_log(output: str, *canaries: str) -> None:
    """Every line has the format, and no secret of the run is in any."""
    for line in output.splitlines():
        assert LINE.fullmatch(line), line
    for canary in (SECRET, "eyJ", *canaries):
        assert canary not in output, canary


def assert_error(response: httpx.Response, status: int, detail: str, code: str) -> None:
    assert (response.status_code, response.json()) == (status, {"detail": detail, "code": code})
    assert response.headers["content-type"] == "application/json"


@dataclass
class User:
    """Somebody signed in, and their calls of the API."""

    id: str
    client: httpx.Client

    @property
    def path(self) -> str:
        return f"/api/{quote(self.id, safe='')}/tasks"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {signed(sub=self.id)}"}

    def call(self, method: str, path: str = "", **kwargs: Any) -> httpx.Response:  # noqa: ANN401
        headers = self.headers | kwargs.pop("headers", {})
        if "json" in kwargs:
            # httpx would not send what JSON can carry and UTF-8 cannot: lone surrogates.
            kwargs["content"] = json.dumps(kwargs.pop("json"))
            headers = {"Content-Type": "application/json"} | headers
        return self.client.request(method, self.path + path, headers=headers, **kwargs)

    def create(self, title: str = "Buy groceries", **fields: object) -> dict[str, Any]:
        response = self.call("POST", json={"title": title, **fields})
        assert response.status_code == 201, response.text
        task: dict[str, Any] = response.json()
        return task

    def list(self, **query: str) -> list[dict[str, Any]]:
        response = self.call("GET", params=query)
        assert response.status_code == 200, response.text
        body = response.json()
        assert body["count"] == len(body["tasks"])
        tasks: list[dict[str, Any]] = body["tasks"]
        return tasks


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    with new_database() as url:
        yield url


@pytest.fixture(scope="session")
def service(database_url: str) -> Iterator[Service]:
    """The service on a working database; its log is checked when all tests are done."""
    with running(environment(database_url)) as service:
        yield service
        output = service.output()
    assert_clean_log(output, database_url, str(make_url(database_url).password))


@pytest.fixture(scope="session")
def served(database_url: str) -> Iterator[Service]:
    """The service as `python main.py` serves it: with its own protocol."""
    with running(environment(database_url), program=("main.py",)) as service:
        yield service
        output = service.output()
    assert_clean_log(output, database_url, str(make_url(database_url).password))


@pytest.fixture(scope="session")
def down() -> Iterator[Service]:
    """The service on a database that cannot be reached."""
    url = "postgresql://someone:database-canary@127.0.0.1:1/nowhere"
    with running(environment(url)) as service:
        yield service
        output = service.output()
    assert_clean_log(output, url, "database-canary")


@pytest.fixture
def user(service: Service) -> User:
    return service.user()


@pytest.fixture
def stranger(service: Service) -> User:
    return service.user()


@pytest.fixture
def sized(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Choose between CI's number and the full one."""
    full = request.config.getoption("--full")
    return lambda ci, whole: whole if full else ci


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The project as a fresh clone has it: without .env, database and environment."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "tests", "benchmarks", "node_modules")
    shutil.copytree(PROJECT, tmp_path / "clone", ignore=ignored)
    shutil.copy(PROJECT / ".env.example", tmp_path / "clone")
    return tmp_path / "clone"
