"""Whatever is killed while clients retry, every Idempotency-Key makes exactly one task."""

import random
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Thread

import httpx
import pytest
from sqlalchemy import make_url

from support.postgres import connected, new_database
from support.service import PATIENCE, User, environment, running

pytestmark = pytest.mark.faults

Sized = Callable[[int, int], int]
Record = Callable[[str, object], None]
MAIN = ("main.py",)
USERS = 8
END_CLAIMS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE state = 'active' AND query ~ 'idempotency_keys' AND pid <> pg_backend_pid()"
    " AND datname = current_database()"
)


@dataclass
class Target:
    """The service that runs at the moment, if one does."""

    url: str = "http://127.0.0.1:1"


@dataclass
class RetryingWriter:
    """A client that sends each creation until it is answered with 201, as if it had a twin."""

    user: User
    target: Target
    stop: Event
    bodies: dict[str, bytes] = field(default_factory=dict)
    replayed: int = 0
    retries: int = 0

    def write(self) -> None:
        number = 0
        with httpx.Client(timeout=PATIENCE) as client:
            while not self.stop.is_set():
                number += 1
                key = f"{self.user.id}-{number}"
                self.bodies[key] = self.create(client, key)

    def create(self, client: httpx.Client, key: str) -> bytes:
        headers = self.user.headers | {"Idempotency-Key": key}
        while True:
            try:
                response = client.post(
                    self.target.url + self.user.path, json={"title": key}, headers=headers
                )
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                if response.status_code == 201:
                    self.replayed += "idempotency-replayed" in response.headers
                    return response.content
                assert response.status_code == 500, response.text
            self.retries += 1


def test_every_key_has_one_task_whatever_is_killed(sized: Sized, record_property: Record) -> None:
    times = sized(3, 100)
    stop, target, ended = Event(), Target(), 0
    with new_database() as url, connected(url) as cursor, httpx.Client() as unused:
        # Then a connection may also end between the commit and its answer.
        cursor.execute(
            f"ALTER DATABASE {make_url(url).database} SET log_min_duration_statement = 0"
        )
        env = environment(url, LOG_LEVEL="warning")
        users = [User(f"user_{uuid.uuid4().hex}", unused) for _ in range(USERS)]
        # Two clients for each user, with the same keys.
        writers = [RetryingWriter(user, target, stop) for user in users * 2]
        threads = [Thread(target=writer.write) for writer in writers]
        with running(env, program=MAIN) as service:
            target.url = service.url
            for thread in threads:
                thread.start()
            time.sleep(0.5)
            service.process.kill()
        for round_ in range(times):
            with running(env, program=MAIN) as service:
                target.url = service.url
                until = time.monotonic() + random.uniform(0.3, 1)
                while time.monotonic() < until:
                    cursor.execute(END_CLAIMS)
                    ended += cursor.fetchone()[0]
                    time.sleep(0.01)
                if round_ < times - 1:
                    service.process.kill()
                    continue
                stop.set()
                for thread in threads:
                    thread.join()
        bodies: dict[str, set[bytes]] = {}
        for writer in writers:
            for key, body in writer.bodies.items():
                bodies.setdefault(key, set()).add(body)
        cursor.execute("SELECT title FROM tasks")
        titles = Counter(title for (title,) in cursor.fetchall())
        cursor.execute("SELECT key FROM idempotency_keys")
        keys = {key for (key,) in cursor.fetchall()}
    assert {len(each) for each in bodies.values()} == {1}, "twins got different responses"
    assert titles == Counter(dict.fromkeys(bodies, 1))
    assert keys == set(bodies)
    retries = sum(writer.retries for writer in writers)
    replayed = sum(writer.replayed for writer in writers)
    assert ended > 0
    assert retries > 0
    record_property(
        "The service is killed (kill -9) and connections are ended under 16 clients that retry",
        f"{times} kills, {ended} connections | {len(bodies):,} keys, one task each; {retries:,}"
        f" retries, {replayed:,} replays | as soon as it starts",
    )
