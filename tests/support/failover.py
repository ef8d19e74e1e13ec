"""Clients of a service whose database fails over, and the ways that lead to the database."""

import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path

from dev_postgres import wait_until_it_answers
from support.haproxy import Proxy
from support.load import Call, Writer, all_calls
from support.network import free_port
from support.patroni import Cluster
from support.pgbouncer import PgBouncer
from support.service import Service, assert_clean_log, environment, running, wait_for

PAUSE = 0.05
"""Seconds between two requests of a client: the load is the same on every machine."""
SUCCESSES = {200, 201}


@dataclass
class Client(Writer):
    """A client that writes and reads, and compares what it reads with what it was told."""

    changed: datetime | None = None
    """When its toggled task was changed last, as an answer said."""
    went_back: list[str] = field(default_factory=list)
    """Reads that did not show what was acknowledged before."""

    def write(self) -> None:
        while not self.stop.is_set():
            self.create_plainly()
            self.create_with_key()
            self.toggle()
            self.read()

    def call(self, method: str, path: str = "", **kwargs: object) -> int | None:
        time.sleep(PAUSE)
        return super().call(method, path, **kwargs)

    def create_plainly(self) -> None:
        title = uuid.uuid4().hex
        created = self.call("POST", json={"title": title})
        if created != 201:
            self.uncertain.add(title)
            return
        self.acknowledged.add(title)
        self.expect_title(self.answer.json()["id"], title)

    def create_with_key(self) -> None:
        """Send the same creation until it is acknowledged."""
        title = uuid.uuid4().hex
        headers = {"Idempotency-Key": title}
        while self.call("POST", json={"title": title}, headers=headers) != 201:
            if self.stop.is_set():
                self.uncertain.add(title)
                return
        self.acknowledged.add(title)

    def toggle(self) -> None:
        status = self.call("PATCH", f"/{self.toggled}/complete")
        self.toggles[status] += 1
        if status == 200:
            self.note_change()

    def read(self) -> None:
        if self.call("GET", f"/{self.toggled}") in {200, 404}:
            self.note_change()

    def note_change(self) -> None:
        if self.answer.status_code == 404:
            self.went_back.append(f"task {self.toggled} is gone")
            return
        changed = datetime.fromisoformat(self.answer.json()["updated_at"])
        if self.changed and changed < self.changed:
            self.went_back.append(f"{changed} after {self.changed}")
        self.changed = changed

    def expect_title(self, number: int, title: str) -> None:
        if self.call("GET", f"/{number}") not in {200, 404}:
            return
        if self.answer.json().get("title") != title:
            self.went_back.append(f"task {number}: {self.answer.text}")


@dataclass(frozen=True)
class Outage:
    """What one fault cost the clients of one way."""

    failed: int
    seconds: float
    """The longest time in which no request succeeded."""


def outage(clients: Sequence[Client], began: float, ended: float) -> Outage:
    """Look at the requests that were under way between two times."""
    calls = [call for call in all_calls(clients) if call.ended >= began and call.started <= ended]
    successes = sorted(call.ended for call in calls if is_success(call))
    gaps = [later - earlier for earlier, later in pairwise(successes)]
    return Outage(sum(not is_success(call) for call in calls), max(gaps))


def is_success(call: Call) -> bool:
    return call.status in SUCCESSES


def wait_until_all_succeed(clients: Sequence[Client]) -> None:
    """Wait until each client has had a request from now on that succeeded."""
    now = time.monotonic()
    for client in clients:
        wait_for(partial(has_succeeded, client, now))


def has_succeeded(client: Client, since: float) -> bool:
    last = client.calls[-1] if client.calls else None
    return last is not None and is_success(last) and last.started > since


@dataclass(frozen=True)
class Way:
    """The service, connected to the cluster in one way."""

    name: str
    service: Service


class PostgresProxy(Proxy):
    """HAProxy in front of the nodes."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.port = free_port()
        written = [f"10.0.0.{number}:5432" for number in (1, 2, 3)]
        servers = [node.server for node in cluster.nodes]
        super().__init__(
            folder,
            "haproxy-postgresql.cfg",
            {
                "127.0.0.1:5432": f"127.0.0.1:{self.port}",
                **dict(zip(written, servers, strict=True)),
            },
        )
        self.url = f"postgresql://postgres:{cluster.password}@127.0.0.1:{self.port}/tasks"


@contextmanager
def connected_ways(cluster: Cluster, *, with_pgbouncer: bool) -> Iterator[list[Way]]:
    """Run the service once for each way to connect to the cluster."""
    with ExitStack() as stack:
        proxy = PostgresProxy(cluster.folder, cluster)
        proxy.start()
        stack.callback(proxy.stop)
        wait_until_it_answers(proxy.url)
        urls = {"all hosts in the URL": cluster.url, "HAProxy": proxy.url}
        if with_pgbouncer:
            pgbouncer = PgBouncer(cluster.folder, proxy.url)
            pgbouncer.start()
            stack.callback(pgbouncer.kill)
            urls["PgBouncer and HAProxy"] = pgbouncer.url
        ways = []
        for name, url in urls.items():
            env = environment(url, LOG_LEVEL="info", DB_TIMEOUT="10", DB_POOL_SIZE="10")
            ways.append(Way(name, stack.enter_context(running(env, program=("main.py",)))))
        yield ways
        for way in ways:
            assert_clean_log(way.service.output(), cluster.password)
