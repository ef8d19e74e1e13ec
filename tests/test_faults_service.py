"""When the service ends, what it acknowledged is kept and what it accepted is answered."""

import http.client
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from support.load import COUNT_TOGGLES, LATE, all_calls, summary, writers
from support.postgres import connected, new_database
from support.service import PATIENCE, User, environment, running

pytestmark = pytest.mark.faults

Sized = Callable[[int, int], int]
Record = Callable[[str, object], None]
MAIN = ("main.py",)
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def counted_url() -> Iterator[str]:
    """A database that counts toggles."""
    with new_database() as url:
        with running(environment(url), program=MAIN), connected(url) as cursor:
            cursor.execute(COUNT_TOGGLES)
        yield url


def test_the_service_is_killed_under_load(
    counted_url: str, sized: Sized, record_property: Record
) -> None:
    times = sized(3, 100)
    acknowledged, unanswered, starts = 0, 0, []
    for _ in range(times):
        started = time.monotonic()
        with running(environment(counted_url, LOG_LEVEL="info"), program=MAIN) as service:
            starts.append(time.monotonic() - started)
            with writers(service) as clients:
                time.sleep(random.uniform(0.2, 1))
                service.process.kill()
        for client in clients:
            client.assert_nothing_lost(counted_url)
        statuses = Counter(call.status for call in all_calls(clients))
        assert set(statuses) <= {200, 201, None}
        acknowledged += statuses[200] + statuses[201]
        unanswered += sum(len(client.uncertain) > 0 for client in clients)
    record_property(
        "The service is killed (kill -9) under 16 writers",
        f"{times} | {acknowledged:,} acknowledged writes, 0 lost, none twice | {summary(starts)}"
        " to start",
    )


class Asker:
    """A client that asks until its connection is refused; it minds every request of its own."""

    def __init__(self, user: User, port: int, *, keep_alive: bool) -> None:
        self.user, self.port, self.keep_alive = user, port, keep_alive
        self.statuses: Counter[int] = Counter()
        self.unanswered: list[str] = []

    def ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        headers = self.user.headers | {"Content-Type": "application/json"}
        while True:
            try:
                if connection.sock is None:
                    connection.connect()
            except OSError:
                return
            try:
                connection.request("POST", self.user.path, '{"title": "x"}', headers)
                response = connection.getresponse()
                response.read()
                self.statuses[response.status] += 1
            except (OSError, http.client.HTTPException) as exc:
                self.unanswered.append(repr(exc))
                connection.close()
            if not self.keep_alive:
                connection.close()


def test_the_service_is_terminated_under_load(
    counted_url: str, sized: Sized, record_property: Record
) -> None:
    times = sized(4, 50)
    answered, ends = 0, []
    for _ in range(times):
        env = environment(counted_url, LOG_LEVEL="warning")
        with running(env, program=MAIN) as service, ThreadPoolExecutor(16) as threads:
            port = int(urlsplit(service.url).port or 0)
            users = [service.user() for _ in range(16)]
            askers = [
                Asker(user, port, keep_alive=number % 2 == 0) for number, user in enumerate(users)
            ]
            asking = [threads.submit(asker.ask) for asker in askers]
            time.sleep(random.uniform(0.3, 1))
            signalled = time.monotonic()
            assert service.stop() in {0, -signal.SIGTERM}
            ends.append(time.monotonic() - signalled)
            for call in asking:
                call.result()
        statuses = sum((asker.statuses for asker in askers), Counter())
        assert set(statuses) == {201}
        assert not [failure for asker in askers for failure in asker.unanswered]
        with connected(counted_url) as cursor:
            cursor.execute(
                "SELECT count(*) FROM tasks WHERE user_id = ANY(%s)", [[user.id for user in users]]
            )
            assert cursor.fetchone()[0] == statuses[201]
        answered += statuses[201]
    record_property(
        "The service is terminated (SIGTERM) under 16 clients, 8 of them with new connections",
        f"{times} | {answered:,} requests, all answered | {summary(ends)} to end",
    )


def test_the_service_is_terminated_while_the_database_hangs(
    counted_url: str, sized: Sized, record_property: Record
) -> None:
    limit = sized(3, 10)
    env = environment(counted_url, DB_TIMEOUT=str(limit))
    with (
        running(env, program=MAIN) as service,
        connected(counted_url) as cursor,
        ThreadPoolExecutor(32) as threads,
    ):
        cursor.execute("BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
        calls = [threads.submit(service.user().call, "GET") for _ in range(32)]
        time.sleep(1)
        signalled = time.monotonic()
        assert service.stop() in {0, -signal.SIGTERM}
        seconds = time.monotonic() - signalled
        assert {call.result().status_code for call in calls} == {500}
        assert seconds < limit + LATE
    record_property(
        "The service is terminated while 32 requests wait for a lock",
        f"1 | all answered (500, DB_TIMEOUT={limit}) | {seconds:.1f} s to end",
    )


def test_simultaneous_changes(counted_url: str, sized: Sized, record_property: Record) -> None:
    times = sized(20, 200)
    with (
        running(environment(counted_url), program=MAIN) as service,
        ThreadPoolExecutor(20) as threads,
        connected(counted_url) as cursor,
    ):
        for number in range(times):
            user = service.user()
            toggled, changed, doomed = (user.create(title)["id"] for title in "abc")
            calls = [threads.submit(user.call, "PATCH", f"/{toggled}/complete") for _ in range(20)]
            states = Counter(call.result().json()["completed"] for call in calls)
            assert states == {True: 10, False: 10}
            cursor.execute("SELECT count(*) FROM toggles WHERE task_id = %s", [toggled])
            assert cursor.fetchone() == (20,)

            fields = {"title": f"T{number}", "description": f"D{number}", "completed": True}
            calls = [
                threads.submit(user.call, "PUT", f"/{changed}", json={name: value})
                for name, value in list(fields.items()) * 7
            ]
            assert Counter(call.result().status_code for call in calls) == {200: 21}
            task = user.call("GET", f"/{changed}").json()
            assert {name: task[name] for name in fields} == fields

            creations = [threads.submit(user.create, f"new {index}") for index in range(10)]
            deletions = [threads.submit(user.call, "DELETE", f"/{doomed}") for _ in range(10)]
            assert len({call.result()["id"] for call in creations}) == 10
            assert Counter(call.result().status_code for call in deletions) == {204: 1, 404: 9}
            titles = {task["title"] for task in user.list()}
            assert titles == {"a", fields["title"], *(f"new {index}" for index in range(10))}
        assert "ERROR" not in service.output()
    record_property(
        "20 simultaneous toggles, updates of different fields, creations and deletions",
        f"{times} | nothing lost, nothing counted twice, no deadlock | none needed",
    )
