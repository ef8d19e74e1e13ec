"""The real service over HTTP, and users with real signed tokens."""

import json
import os
import re
import signal
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

from support.network import free_port
from support.tokens import SECRET, signed

PROJECT = Path(__file__).parents[2]
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
PATIENCE = 120.0
"""Seconds that a test waits for what takes one or two, as a busy machine may be that late."""
UNLIMITED = httpx.Limits(max_connections=None)


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
        "DB_TIMEOUT": "60",
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
        return self.process.wait(timeout=PATIENCE)


@contextmanager
def running(
    env: Mapping[str, str], *options: str, program: tuple[str, ...] = ("-m", "uvicorn", "main:app")
) -> Iterator[Service]:
    """Start the service on a free port, wait until it answers, and end it."""
    port = str(free_port())
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
        with httpx.Client(base_url=url, timeout=PATIENCE, limits=UNLIMITED) as client:
            service = Service(process, log, url, client)
            wait_for(service.answers)
            yield service
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=PATIENCE)
        log.unlink()


def patient(*limits: str) -> tuple[str, str]:
    """Return the program `main.py`, but with limits of time that a test cannot reach."""
    raised = "".join(
        f"import {limit.partition('.')[0]}\n{limit} = {PATIENCE}\n" for limit in limits
    )
    return "-c", f"{raised}import runpy\nrunpy.run_path('main.py', run_name='__main__')"


def wait_for(condition: Callable[[], Any], patience: float = PATIENCE) -> Any:  # noqa: ANN401
    """Return the condition's value as soon as it is true."""
    deadline = time.monotonic() + patience
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


def assert_revalidated(response: httpx.Response) -> None:
    assert response.headers.get_list("cache-control") == ["private, no-cache"]
    assert sorted(response.headers["vary"].split(", ")) == ["Authorization", "Origin"]


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
