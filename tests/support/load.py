"""Clients that write all the time, and whether what was acknowledged to them is kept."""

import select
import socket
import statistics
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPResponse
from threading import Event, Thread
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
import psutil

from support.postgres import connected
from support.service import Service, User

LATE = 20.0
"""Seconds that a busy machine may add to a limit; docs/reliability.md has what was measured."""
MEBIBYTE = 2**20
COUNT_TOGGLES = """
    CREATE TABLE toggles (task_id int);
    CREATE FUNCTION count_toggle() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO toggles VALUES (NEW.id); RETURN NULL; END';
    CREATE TRIGGER toggled AFTER UPDATE OF completed ON tasks
        FOR EACH ROW WHEN (OLD.completed <> NEW.completed) EXECUTE FUNCTION count_toggle()
"""


@dataclass(frozen=True)
class Call:
    """One request: when, and its status, or None if the connection ended without an answer."""

    started: float
    ended: float
    status: int | None


@dataclass
class Writer:
    """A client that creates a task and toggles its first one, in turn, until it is told to stop."""

    user: User
    stop: Event
    calls: list[Call] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    uncertain: set[str] = field(default_factory=set)
    toggles: Counter[int | None] = field(default_factory=Counter)
    toggled: int = field(init=False)
    answer: httpx.Response = field(init=False)

    def __post_init__(self) -> None:
        self.toggled = self.user.create("toggled")["id"]

    def write(self) -> None:
        while not self.stop.is_set():
            title = uuid.uuid4().hex
            created = self.call("POST", json={"title": title})
            (self.acknowledged if created == 201 else self.uncertain).add(title)
            self.toggles[self.call("PATCH", f"/{self.toggled}/complete")] += 1

    def call(self, method: str, path: str = "", **kwargs: object) -> int | None:
        started = time.monotonic()
        try:
            self.answer = self.user.call(method, path, **kwargs)
            status: int | None = self.answer.status_code
        except httpx.TransportError:
            status = None
            time.sleep(0.01)
        self.calls.append(Call(started, time.monotonic(), status))
        return status

    def assert_nothing_lost(self, database_url: str) -> None:
        """What was acknowledged is there once; what was not may be there, once at most."""
        with connected(database_url) as cursor:
            cursor.execute("SELECT title FROM tasks WHERE user_id = %s", [self.user.id])
            titles = Counter(title for (title,) in cursor.fetchall())
            cursor.execute("SELECT count(*) FROM toggles WHERE task_id = %s", [self.toggled])
            stored = cursor.fetchone()[0]
            cursor.execute("SELECT completed FROM tasks WHERE id = %s", [self.toggled])
            completed = cursor.fetchone()[0]
        assert titles.pop("toggled") == 1
        assert not self.acknowledged - set(titles), "an acknowledged task is lost"
        assert not set(titles) - self.acknowledged - self.uncertain
        assert set(titles.values()) <= {1}, "a task is there twice"
        certain = self.toggles[200]
        assert certain <= stored <= certain + self.toggles.total() - certain
        assert completed == bool(stored % 2)


W = TypeVar("W", bound=Writer)


def writers(service: Service, number: int = 16) -> AbstractContextManager[list[Writer]]:
    """Let clients write as long as the context lasts."""
    return writers_of(Writer, service, number)


@contextmanager
def writers_of(kind: type[W], service: Service, number: int) -> Iterator[list[W]]:
    """Let clients of a class write as long as the context lasts."""
    stop = Event()
    clients = [kind(service.user(), stop) for _ in range(number)]
    threads = [Thread(target=client.write) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class Watch:
    """The service's memory, and how long others wait, while a flood lasts."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.process = psutil.Process(service.process.pid)
        self.before = self.most = self.process.memory_info().rss
        self.waits: list[float] = []

    def until(self, done: Callable[[], bool]) -> None:
        """Ask as other clients do until the flood is over."""
        user = self.service.user()
        while not self.waits or not done():
            started = time.monotonic()
            assert self.service.client.get("/health").status_code == 200
            between = time.monotonic()
            assert user.call("GET").status_code == 200
            self.waits += [between - started, time.monotonic() - between]
            self.most = max(self.most, self.process.memory_info().rss)

    def assert_bounded(self, mebibytes: int) -> str:
        grown = (self.most - self.before) / MEBIBYTE
        assert grown < mebibytes
        # A second is the aim, as docs/reliability.md shows; this much is no noise.
        assert max(self.waits) < 3
        return f"{grown:.0f} MiB more | others waited at most {max(self.waits):.2f} s"


class Burst:
    """Requests sent at the same time, by one thread: a client that needs no time of its own."""

    def __init__(self, service: Service, number: int) -> None:
        address = urlsplit(service.url)
        body = b'{"title": "x"}'
        self._connections = [
            socket.create_connection((address.hostname, address.port)) for _ in range(number)
        ]
        for index, connection in enumerate(self._connections):
            user, method = service.user(), ("GET", "POST")[index % 2]
            connection.sendall(
                f"{method} {user.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                f"Authorization: {user.headers['Authorization']}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )

    def answered(self) -> int:
        """Count the answers that are there."""
        return len(select.select(self._connections, [], [], 0)[0])

    def statuses(self) -> set[int]:
        """Wait for all answers."""
        statuses = set()
        for connection in self._connections:
            with connection, HTTPResponse(connection) as response:
                response.begin()
                statuses.add(response.status)
        return statuses


def all_calls(clients: Sequence[Writer]) -> list[Call]:
    return [call for client in clients for call in client.calls]


def summary(seconds: list[float]) -> str:
    return f"median {statistics.median(seconds):.2f} s, at most {max(seconds):.2f} s"
