"""Many workers share a transaction pooler's few connections, and each client gets its turn."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median
from threading import Event

import httpx
import pytest
from sqlalchemy import make_url

from support.load import LATE
from support.pgbouncer import PgBouncer
from support.postgres import connected, new_database, passable_folder
from support.service import PATIENCE, Service, User, environment, running, wait_for

pytestmark = pytest.mark.pooler

Sized = Callable[[int, int], int]
Record = Callable[[str, object], None]
DB_TIMEOUT = 10
CLIENTS = 40
SERVER_CONNECTIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
)
HOLD = """
    CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_sleep(0.02); RETURN NULL; END';
    CREATE TRIGGER hold AFTER INSERT OR UPDATE ON tasks EXECUTE FUNCTION hold()
"""
"""Make each write use its server connection for 20 ms, so that there is a queue for them."""


class Client:
    """A client that creates, toggles and lists its tasks until it is told to stop."""

    def __init__(self, number: int, service: Service) -> None:
        # Each request with a new connection, so that the system spreads them over the workers.
        limits = httpx.Limits(max_keepalive_connections=0)
        client = httpx.Client(base_url=service.url, timeout=PATIENCE, limits=limits)
        self.user = User(f"client_{number}", client)
        self.results: Counter[int] = Counter()
        self.longest = 0.0

    def call_until(self, stop: Event) -> None:
        with self.user.client:
            while not stop.is_set():
                created = self.call("POST", json={"title": "x"})
                self.call("PATCH", f"/{created.json()['id']}/complete")
                self.call("GET", params={"limit": "10"})

    def call(self, method: str, path: str = "", **kwargs: object) -> httpx.Response:
        began = time.monotonic()
        response = self.user.call(method, path, **kwargs)
        self.longest = max(self.longest, time.monotonic() - began)
        self.results[response.status_code] += 1
        assert response.is_success, response.text
        return response


@contextmanager
def pooled(size: int) -> Iterator[tuple[PgBouncer, str, str]]:
    """Yield a pooler with so many connections, and a database's URLs through it and without."""
    with passable_folder() as folder, new_database() as direct:
        pooler = PgBouncer(folder, os.environ["TEST_DATABASE_URL"], size)
        pooler.start()
        try:
            url = make_url(direct).set(host="127.0.0.1", port=pooler.port)
            yield pooler, url.render_as_string(hide_password=False), direct
        finally:
            pooler.kill()


def test_many_workers_share_few_server_connections(sized: Sized, record_property: Record) -> None:
    workers, size, seconds = sized(6, 20), sized(3, 5), sized(5, 60)
    stop, used, waiting = Event(), Counter[int](), 0
    with pooled(size) as (pooler, url, direct), connected(direct) as cursor:
        env = environment(
            url, LOG_LEVEL="info", WEB_CONCURRENCY=str(workers), DB_TIMEOUT=str(DB_TIMEOUT)
        )
        with running(env, program=("main.py",)) as service:
            wait_for(lambda: service.output().count("Application startup complete") == workers)
            cursor.execute(HOLD)
            clients = [Client(number, service) for number in range(CLIENTS)]
            with ThreadPoolExecutor(CLIENTS) as threads:
                calling = [threads.submit(client.call_until, stop) for client in clients]
                try:
                    until = time.monotonic() + seconds
                    while time.monotonic() < until:
                        cursor.execute(SERVER_CONNECTIONS)
                        used[cursor.fetchone()[0]] += 1
                        waiting = max(waiting, pooler.waiting())
                        time.sleep(0.02)
                    assert service.client.get("/health").status_code == 200
                finally:
                    stop.set()
                for each in calling:
                    each.result()
            output = service.output()
        cursor.execute("SELECT count(*), count(*) FILTER (WHERE completed) FROM tasks")
        stored = cursor.fetchone()
    results = sum((client.results for client in clients), Counter())
    longest = max(client.longest for client in clients)
    shares = [client.results.total() for client in clients]
    assert set(results) == {200, 201}
    assert stored == (results[201], results[201])
    assert max(used) == size
    assert waiting > size
    assert min(shares) > median(shares) / 3
    assert longest < DB_TIMEOUT + LATE
    assert "ERROR" not in output
    record_property(
        f"{workers} workers share {size} server connections of PgBouncer, {CLIENTS} clients",
        f"{seconds} s | {results.total():,} requests, 0 failed; at most {max(used)} server"
        f" connections, {waiting} clients waiting for them; {min(shares)} to {max(shares)}"
        " requests for each client | longest request"
        f" {longest:.1f} s",
    )
