"""The container image: built, locked down, ended and replaced under load."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest
from uvicorn.config import STARTUP_FAILURE

from support.haproxy import SERVERS, HAProxy, Instance
from support.image import IMAGE, PYTHON, Containers, containers
from support.load import COUNT_TOGGLES, all_calls, writers
from support.postgres import connected, new_database
from support.service import (
    PATIENCE,
    UNLIMITED,
    Service,
    assert_clean_log,
    environment,
    wait_for,
)

pytestmark = pytest.mark.image

Sized = Callable[[int, int], int]
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def built() -> Iterator[Containers]:
    with containers() as built:
        yield built


def test_the_image_is_small(built: Containers, record_property: Record) -> None:
    base, whole = built.size(PYTHON), built.size(IMAGE)
    record_property("The image", f"{(whole - base) / 1e6:.0f} MB on top of {PYTHON}")
    assert whole - base < 130e6


def test_it_runs_as_nobody_and_cannot_write(
    built: Containers, database_url: str, record_property: Record
) -> None:
    started = time.monotonic()
    with built.running(environment(database_url)) as service:
        record_property("The image's start", f"{time.monotonic() - started:.1f} s to an answer")
        name = f"todo-{service.client.base_url.port}"
        assert service.client.get("/livez").json() == {"status": "alive"}
        assert service.client.get("/health").status_code == 200
        task = service.user("someone").create()
        assert service.user("someone").list() == [task]

        process = psutil.Process(int(built.podman("inspect", "--format={{.State.Pid}}", name)))
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        identities = dict(line.split(":\t", 1) for line in status.splitlines())
        assert process.cmdline() == ["python", "main.py"]
        assert identities["NSpid"].split()[-1] == "1"
        assert (*process.uids(), *process.gids()) == (999,) * 6
        assert int(identities["CapEff"], 16) == 0

        # What HEALTHCHECK does; it fails where nothing listens.
        built.podman("healthcheck", "run", name)
        with pytest.raises(AssertionError, match="Read-only file system"):
            built.podman("exec", "--user=0", name, "touch", "/app/main.py")
        files = built.podman("exec", name, "ls", "-A", "/app").split()
        kept = {"middleware", "migrations", "routes", "__pycache__", ".venv"}
        kept |= {"alembic.ini", "pyproject.toml", "uv.lock"}
        assert {file for file in files if not file.endswith(".py")} == kept
        assert not {"dev.py", "dev_postgres.py"} & set(files)

        # As a platform does: SIGTERM, and SIGKILL after its time, which would be another code.
        built.podman("stop", "--time=30", name)
        assert service.process.wait(PATIENCE) == 0
        output = service.output()
    assert_clean_log(output, database_url)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_waits_for_the_request_in_hand(
    built: Containers, database_url: str, workers: str
) -> None:
    with (
        built.running(environment(database_url, WEB_CONCURRENCY=workers)) as service,
        connected(database_url) as cursor,
        ThreadPoolExecutor() as threads,
    ):
        user = service.user()
        cursor.execute("BEGIN; LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
        creating = threads.submit(user.create)
        with connected(database_url) as observer:
            waiting = (
                "SELECT count(*) FROM pg_locks WHERE relation = 'tasks'::regclass AND NOT granted"
            )
            wait_for(lambda: observer.execute(waiting) or observer.fetchone()[0])
        ended = threads.submit(service.stop)
        # A new connection is refused as soon as it has the signal.
        wait_for(lambda: not _answers(service))
        assert not ended.done()
        cursor.execute("ROLLBACK")
        assert creating.result()["title"] == "Buy groceries"
        assert ended.result() == 0


def _answers(service: Service) -> bool:
    try:
        httpx.get(f"{service.url}/livez")
    except httpx.TransportError:
        return False
    return True


def test_without_settings_it_ends_with_one_line(built: Containers, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert built.run({}, log, "todo-unset").wait(PATIENCE) == STARTUP_FAILURE
    (line,) = log.read_text(encoding="utf-8").splitlines()
    assert "DATABASE_URL is required; BETTER_AUTH_SECRET is required" in line


class Container(Instance):
    """The image on a port of its own, which may be restarted."""

    built: Containers

    def start(self) -> None:
        self.process = self.built.run(self.env, self.log, f"todo-{self.port}")
        wait_for(self.answers)


def test_a_rolling_restart_under_load_loses_nothing(
    built: Containers, sized: Sized, record_property: Record, tmp_path: Path
) -> None:
    times = sized(2, 20)
    with new_database() as url, ExitStack() as stack:
        env = environment(url, LOG_LEVEL="warning")
        instances = [Container(env, tmp_path / f"{name}.log") for name in SERVERS]
        for instance in instances:
            instance.built = built
            instance.start()
            stack.callback(instance.stop)
        with connected(url) as cursor:
            cursor.execute(COUNT_TOGGLES)
        haproxy = HAProxy(tmp_path, instances)
        haproxy.start()
        assert haproxy.process
        stack.callback(haproxy.stop)
        wait_for(lambda: all(haproxy.status(name) == "UP" for name in SERVERS))
        address = f"http://127.0.0.1:{haproxy.port}"
        client = httpx.Client(base_url=address, timeout=PATIENCE, limits=UNLIMITED)
        stack.enter_context(client)
        with writers(Service(haproxy.process, tmp_path, address, client)) as clients:
            codes = [haproxy.restart(number) for _ in range(times) for number in range(2)]
        calls = all_calls(clients)
        assert set(codes) == {0}
        assert {call.status for call in calls} <= {200, 201}
        for each in clients:
            each.assert_nothing_lost(url)
    record_property(
        "The image replaced, one of two at a time, behind HAProxy under 16 clients",
        f"{2 * times} times | {len(calls):,} requests, none failed",
    )
