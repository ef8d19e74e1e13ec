"""Several workers: they start once, are replaced, end together, and leave nothing behind."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from uvicorn.config import STARTUP_FAILURE

from support.network import free_port
from support.service import (
    PATIENCE,
    Service,
    assert_clean_log,
    environment,
    running,
    wait_for,
)

pytestmark = pytest.mark.slow

MAIN = ("main.py",)


@pytest.fixture
def service(database_url: str) -> Iterator[Service]:
    """Three workers."""
    env = environment(database_url, LOG_LEVEL="info", WEB_CONCURRENCY="3")
    with running(env, program=MAIN) as service:
        wait_for(lambda: started(service) == 3)
        yield service
        output = service.output()
    assert_clean_log(output, database_url)


@contextmanager
def one_core() -> Iterator[None]:
    """Let what is started here share a core, which two others keep busy."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        for process in busy:
            process.kill()
            process.wait()


def started(service: Service) -> int:
    return service.output().count("Application startup complete")


def workers_of(service: Service) -> list[psutil.Process]:
    return psutil.Process(service.process.pid).children()


def answers(service: Service) -> bool:
    return service.client.get("/health").is_success


def test_four_workers_on_a_busy_core_start_once(database_url: str) -> None:
    env = environment(database_url, LOG_LEVEL="info", WEB_CONCURRENCY="4")
    with one_core(), running(env, program=MAIN) as service:
        workers = workers_of(service)
        assert len(workers) == 4
        wait_for(lambda: started(service) == 4)
        for _ in range(20):
            service.user().create()
        assert workers_of(service) == workers
        output = service.output()
    assert output.count("[Todo API ") == 4
    assert not re.search(r"\[(WARNING|ERROR|CRITICAL)\]", output)
    assert_clean_log(output)


def test_the_number_of_workers_is_read_from_the_env_file(clone: Path, database_url: str) -> None:
    (clone / ".env").write_text("WEB_CONCURRENCY=2\n")
    env = environment(database_url, LOG_LEVEL="info")
    with running(env, program=(str(clone / "main.py"),)) as service:
        assert len(workers_of(service)) == 2


def test_the_supervisor_does_not_import_the_app(service: Service) -> None:
    supervisor = psutil.Process(service.process.pid).memory_info().rss
    assert supervisor < min(worker.memory_info().rss for worker in workers_of(service)) / 3


def test_a_worker_that_dies_is_replaced(service: Service) -> None:
    killed, terminated, *kept = workers_of(service)
    killed.kill()
    terminated.terminate()
    wait_for(lambda: started(service) == 5)
    assert answers(service)
    workers = workers_of(service)
    assert len(workers) == 3
    assert set(kept) < set(workers)
    assert not {killed, terminated} & set(workers)
    assert f"Worker {killed.pid} ended with -9; another one starts" in service.output()


def test_a_terminated_worker_leaves_the_port_to_the_others(service: Service) -> None:
    terminated, *kept = workers_of(service)
    terminated.terminate()
    while terminated.is_running() and terminated.status() != psutil.STATUS_ZOMBIE:
        with socket.create_connection(("127.0.0.1", port_of(service))):
            pass
    assert answers(service)
    wait_for(lambda: set(kept) < set(workers_of(service)))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_with_exit_code_0(service: Service, how: signal.Signals) -> None:
    workers = workers_of(service)
    service.process.send_signal(how)
    assert service.process.wait(PATIENCE) == 0
    assert not any(worker.is_running() for worker in workers)


def test_a_signal_to_all_of_them_ends_all_with_exit_code_0(service: Service) -> None:
    """As Ctrl-C and systemd send it."""
    workers = workers_of(service)
    for worker in workers:
        worker.send_signal(signal.SIGINT)
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait(PATIENCE) == 0
    assert not any(worker.is_running() for worker in workers)


def test_a_signal_while_they_start_ends_all_with_exit_code_0(database_url: str) -> None:
    env = environment(database_url, WEB_CONCURRENCY="4")
    with running(env, program=MAIN) as service:
        workers = workers_of(service)
        assert service.stop() == 0
        assert not any(worker.is_running() for worker in workers)
        assert_clean_log(service.output())


def test_a_killed_supervisor_leaves_no_worker_behind(service: Service) -> None:
    workers = workers_of(service)
    service.process.kill()
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE)
    assert not alive
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port_of(service))) != 0


def test_a_worker_that_hangs_is_killed_at_the_end(service: Service) -> None:
    hung = workers_of(service)[0]
    hung.suspend()
    service.process.terminate()
    assert service.process.wait(PATIENCE) == 0
    assert not hung.is_running()
    assert f"Worker {hung.pid} does not end and is killed" in service.output()


def port_of(service: Service) -> int:
    return int(urlsplit(service.url).port or 0)


def test_an_app_that_cannot_start_ends_all(clone: Path) -> None:
    with (clone / "routes" / "health.py").open("a") as source:
        source.write("\nraise ValueError('broken')\n")
    url = "postgresql://someone:database-canary@127.0.0.1:1/nowhere"
    end = subprocess.run(
        [sys.executable, "main.py"],
        cwd=clone,
        env=environment(url, WEB_CONCURRENCY="2", PORT=str(free_port())),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert end.returncode == STARTUP_FAILURE
    assert end.stderr.count("could not start, so the service ends") in {1, 2}
    assert end.stderr.count("[ValueError: broken]") <= 2
    assert_clean_log(end.stderr)
