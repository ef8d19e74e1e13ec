"""A rolling restart behind a proxy loses no request."""

import http.client
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx
import pytest

from support.haproxy import HAProxy, behind_haproxy
from support.postgres import connected
from support.service import User, environment

pytestmark = pytest.mark.faults

Sized = Callable[[int, int], int]
Record = Callable[[str, object], None]
CLIENTS = 16


class Client:
    """A client that creates tasks until it is told to stop, half of them with new connections."""

    def __init__(self, number: int, haproxy: HAProxy) -> None:
        self.user = User(f"rolling_{haproxy.port}_{number}", httpx.Client())
        self.keep_alive = number % 2 == 0
        self.port = haproxy.port
        self.results: Counter[object] = Counter()

    def create_until(self, stop: Event) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = self.user.headers | {"Content-Type": "application/json"}
        while not stop.is_set():
            try:
                connection.request("POST", self.user.path, '{"title": "x"}', headers)
                response = connection.getresponse()
                response.read()
                self.results[response.status] += 1
            except (OSError, http.client.HTTPException) as exc:
                self.results[repr(exc)] += 1
                connection.close()
            if not self.keep_alive:
                connection.close()
        connection.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_rolling_restart_loses_no_request(
    database_url: str, tmp_path: Path, workers: str, sized: Sized, record_property: Record
) -> None:
    times = sized(2, 20)
    env = environment(database_url, LOG_LEVEL="warning", WEB_CONCURRENCY=workers)
    stop = Event()
    with behind_haproxy(env, tmp_path) as haproxy, ThreadPoolExecutor(CLIENTS) as threads:
        clients = [Client(number, haproxy) for number in range(CLIENTS)]
        running = [threads.submit(client.create_until, stop) for client in clients]
        try:
            codes = [haproxy.restart(number) for _ in range(times) for number in range(2)]
        finally:
            stop.set()
        for each in running:
            each.result()
        results = sum((client.results for client in clients), Counter())
        assert set(codes) == {0}
        assert set(results) == {201}, results
        with connected(database_url) as cursor:
            users = [client.user.id for client in clients]
            cursor.execute("SELECT count(*) FROM tasks WHERE user_id = ANY(%s)", [users])
            assert cursor.fetchone() == (results[201],)
    assert "ERROR" not in "".join(path.read_text() for path in tmp_path.glob("*.log"))
    record_property(
        f"two instances behind HAProxy are restarted in turn under {CLIENTS} clients, half of them"
        f" with new connections; workers of each: {workers}",
        f"{2 * times} | {results[201]:,} requests, 0 failed, all stored once | none needed",
    )
