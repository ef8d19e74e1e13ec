"""The container image: built, locked down, ended and replaced under load."""

import csv
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from uvicorn.config import STARTUP_FAILURE

from server import SHUTDOWN_TIMEOUT
from support.image import IMAGE, PYTHON, Containers, containers, program
from support.load import COUNT_TOGGLES, all_calls, writers
from support.network import free_port
from support.postgres import connected, new_database
from support.service import (
    PATIENCE,
    PROJECT,
    UNLIMITED,
    Service,
    assert_clean_log,
    environment,
    wait_for,
)

pytestmark = pytest.mark.image

GUIDE = (PROJECT / "docs" / "deployment.md").read_text(encoding="utf-8")

Sized = Callable[[int, int], int]
Record = Callable[[str, object], None]
# As long as compose.yaml and the platforms wait after SIGTERM.
MOST_TO_END = SHUTDOWN_TIMEOUT + 5


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

        ending = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - ending < MOST_TO_END
        output = service.output()
    assert_clean_log(output, database_url)


def test_sigterm_waits_for_the_request_in_hand(built: Containers, database_url: str) -> None:
    with (
        built.running(environment(database_url)) as service,
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


@contextmanager
def behind_haproxy(folder: Path, ports: list[int]) -> Iterator[Service]:
    """Put a load balancer in front of the instances, as docs/deployment.md describes it."""
    port = free_port()
    (block,) = re.findall(r"```haproxy\n(.*?\n) *```", GUIDE, re.DOTALL)
    for written, chosen in zip(("8080", "8001", "8002"), (port, *ports), strict=True):
        block = block.replace(f"127.0.0.1:{written}", f"127.0.0.1:{chosen}")
    configuration = folder / "haproxy.cfg"
    configuration.write_text(block)
    log = folder / "haproxy.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [program("haproxy"), "-db", "-f", str(configuration)],
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=PATIENCE, limits=UNLIMITED) as client:
            service = Service(process, log, url, client)
            wait_for(lambda: service.answers() and _all_are_up(service))
            yield service
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _all_are_up(balancer: Service) -> bool:
    states = csv.DictReader(balancer.client.get("/haproxy?;csv").text.splitlines())
    return all(state["status"] in {"UP", "OPEN"} for state in states)


def test_a_rolling_restart_under_load_loses_nothing(
    built: Containers, sized: Sized, record_property: Record, tmp_path: Path
) -> None:
    rounds = sized(2, 20)
    with new_database() as url, ExitStack() as stack:
        env = environment(url, LOG_LEVEL="info")
        instances = {port: ExitStack() for port in (free_port(), free_port())}
        services = {}
        for port, instance in instances.items():
            stack.enter_context(instance)
            services[port] = instance.enter_context(built.running(env, port))
        with connected(url) as cursor:
            cursor.execute(COUNT_TOGGLES)
        balancer = stack.enter_context(behind_haproxy(tmp_path, list(instances)))
        with writers(balancer) as clients:
            for _ in range(rounds):
                for port, instance in instances.items():
                    assert services[port].stop() == 0
                    instance.close()
                    services[port] = instance.enter_context(built.running(env, port))
                    wait_for(lambda: _all_are_up(balancer))
        calls = all_calls(clients)
        assert {call.status for call in calls} <= {200, 201}
        for client in clients:
            client.assert_nothing_lost(url)
    record_property(
        "The image replaced, one of two at a time, behind HAProxy under 16 clients",
        f"{2 * rounds} times | {len(calls):,} requests, none failed",
    )
