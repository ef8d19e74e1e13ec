"""The first start, and every other: nothing is lost, nothing is left, nothing gets stuck."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from support.network import free_port
from support.service import PATIENCE, wait_for


@dataclass
class Launch:
    """A running dev.py."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def curl(self) -> list[str]:
        """Wait for the line that is printed for pasting, and return its words."""
        pattern = re.compile("^curl .*$", re.MULTILINE)
        return shlex.split(wait_for(lambda: pattern.search(self.output()))[0])

    def create_task(self) -> httpx.Response:
        """Do what the printed line does."""
        words = self.curl()
        assert words[:3] == ["curl", "-X", "POST"]
        headers = dict(words[i + 1].split(": ") for i, word in enumerate(words) if word == "-H")
        return httpx.post(
            words[3], headers=headers, content=words[words.index("-d") + 1], timeout=PATIENCE
        )

    def answer_to_no_http(self) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(b"no HTTP")
            return connection.makefile("rb").read().partition(b"\r\n\r\n")[2]

    def titles(self) -> list[str]:
        words = self.curl()
        headers = {"Authorization": words[words.index("-H") + 1].split(": ")[1]}
        return [
            task["title"]
            for task in httpx.get(words[3], headers=headers, timeout=PATIENCE).json()["tasks"]
        ]

    def offered_users(self) -> set[str]:
        """Return the user ids that Swagger UI fills in."""
        document = httpx.get(f"http://localhost:{self.port}/openapi.json", timeout=PATIENCE).json()
        return {
            parameter["example"]
            for operations in document["paths"].values()
            for operation in operations.values()
            for parameter in operation.get("parameters", ())
            if parameter["name"] == "user_id"
        }

    def interrupt(self) -> int:
        """Press Ctrl-C, which reaches the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout=PATIENCE)


@contextmanager
def launched(clone: Path, *, port: int | None = None, parent: str = "") -> Iterator[Launch]:
    """Start dev.py in its own process group, with an environment that names only the port."""
    port = port or free_port()
    log = clone.parent / f"{os.urandom(4).hex()}.log"
    command = [sys.executable, "dev.py"]
    if parent:
        # As under `uv run`, which stays the parent of what it runs.
        code = f"import subprocess, sys; sys.exit(subprocess.run({command}).returncode)"
        link = clone.parent / parent
        link.symlink_to(sys.executable)
        command = [str(link), "-c", code]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=clone,
            env={"PATH": os.environ["PATH"], "PORT": str(port)},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Launch(process, log, port)
    finally:
        process.kill()
        for left in processes_of(clone):
            with suppress(psutil.NoSuchProcess):
                left.kill()
        process.wait()


def processes_of(clone: Path) -> list[psutil.Process]:
    """Return every process that works in the clone, PostgreSQL's included."""
    return [
        process
        for process in psutil.process_iter(["name", "cwd", "status"])
        if (process.info["cwd"] or "").startswith(str(clone))
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def test_a_first_and_a_second_start(clone: Path) -> None:
    with launched(clone) as first:
        assert first.create_task().status_code == 201
        assert (
            first.answer_to_no_http()
            == b'{"detail":"Invalid HTTP request","code":"VALIDATION_ERROR"}'
        )
        output = first.output()
        assert "First start: setting up PostgreSQL" in output
        assert f"http://localhost:{first.port}/docs" in output
        secret = re.search(
            "^BETTER_AUTH_SECRET=(.{32,})$", (clone / ".env").read_text(), re.MULTILINE
        )
        assert secret
        assert secret[1] not in output
        assert (clone / ".env").stat().st_mode & 0o777 == 0o600
        assert first.interrupt() == 0
        wait_for(lambda: processes_of(clone) == [])
    env_file = (clone / ".env").read_text()
    with launched(clone) as second:
        assert second.titles() == ["Buy groceries"]
        assert second.offered_users() == {"demo-user"}
        assert "First start" not in second.output()
        assert (clone / ".env").read_text() == env_file
        second.process.terminate()
        assert second.process.wait(timeout=PATIENCE) == 0
        wait_for(lambda: processes_of(clone) == [])


@pytest.mark.slow
def test_a_killed_launcher_loses_nothing_and_leaves_nothing_stuck(clone: Path) -> None:
    port = free_port()
    with launched(clone, port=port) as first:
        assert first.create_task().status_code == 201
        first.process.kill()
        first.process.wait()
        # The service goes with its launcher, and PostgreSQL waits for the next one.
        wait_for(lambda: {process.info["name"] for process in processes_of(clone)} == {"postgres"})
        with launched(clone, port=port) as second:
            assert second.create_task().status_code == 201
            assert len(second.titles()) == 2
    # PostgreSQL was killed now too, as by a power failure.
    with launched(clone, port=port) as third:
        assert len(third.titles()) == 2
        assert third.interrupt() == 0
        wait_for(lambda: processes_of(clone) == [])


@pytest.mark.slow
def test_the_launcher_ends_when_uv_is_killed(clone: Path) -> None:
    with launched(clone, parent="uv") as launch:
        assert launch.create_task().status_code == 201
        launch.process.kill()
        wait_for(lambda: processes_of(clone) == [])
    with launched(clone, port=launch.port) as again:
        assert again.titles() == ["Buy groceries"]


@pytest.mark.slow
def test_an_interrupted_first_start_is_made_good(clone: Path) -> None:
    with launched(clone) as launch:
        wait_for(lambda: list(clone.glob(".postgres/data.*/base")))
        launch.process.kill()
        launch.process.wait()
    assert not (clone / ".postgres" / "data").exists()
    with launched(clone) as again:
        assert again.create_task().status_code == 201
    assert [path.name for path in clone.glob(".postgres/data*")] == ["data"]


@pytest.mark.slow
def test_a_process_number_used_again_does_not_stop_the_start(clone: Path) -> None:
    with launched(clone) as launch:
        launch.create_task()
        launch.interrupt()
    lines = [os.getpid(), clone / ".postgres" / "data", 1, 5432, "", "127.0.0.1", "1 1", "ready"]
    (clone / ".postgres/data/postmaster.pid").write_text("".join(f"{line}\n" for line in lines))
    with launched(clone) as again:
        assert again.titles() == ["Buy groceries"]


@pytest.mark.slow
def test_two_clones_run_at_once(clone: Path) -> None:
    other = clone.parent / "other clone, with spaces"
    shutil.copytree(clone, other)
    with launched(clone) as first, launched(other) as second:
        assert first.create_task().status_code == 201
        assert second.titles() == []
        assert first.interrupt() == 0
        assert second.create_task().status_code == 201
        assert second.interrupt() == 0


@pytest.mark.slow
def test_a_second_launcher_in_the_same_folder_is_told_so(clone: Path) -> None:
    with launched(clone) as first:
        first.curl()
        with_other_port = subprocess.run(
            [sys.executable, "dev.py"],
            cwd=clone,
            env={"PORT": str(free_port())},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert with_other_port.returncode == 1
        assert "dev.py already runs in this folder" in with_other_port.stderr
        assert first.create_task().status_code == 201


def test_a_taken_port_is_named_with_what_to_do(clone: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        launched(clone, port=taken.getsockname()[1]) as launch,
    ):
        assert launch.process.wait(timeout=PATIENCE) == 1
        assert f"Port {launch.port} is taken" in launch.output()
        assert f"PORT={launch.port + 1} uv run dev.py" in launch.output()
        assert "Traceback" not in launch.output()


def test_a_mistake_in_the_env_file_is_one_line(clone: Path) -> None:
    (clone / ".env").write_text("ALLOWED_ORIGINS=http://localhost:3000\n")
    with launched(clone) as launch:
        assert launch.process.wait(timeout=PATIENCE) == 1
        assert "\nConfiguration error: BETTER_AUTH_SECRET is required\n" in launch.output()
        assert "Traceback" not in launch.output()


@pytest.mark.slow
def test_a_postgresql_that_does_not_start_says_why(clone: Path) -> None:
    data = clone / ".postgres" / "data"
    data.mkdir(parents=True, mode=0o755)
    (clone / ".postgres" / "password").write_text("x")
    with launched(clone) as launch:
        assert launch.process.wait(timeout=PATIENCE) == 1
        assert "PostgreSQL's pg_ctl failed:" in launch.output()
        assert "is not a database cluster directory" in launch.output()
        assert "Traceback" not in launch.output()
    assert data.exists()


def reset(clone: Path, *options: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "dev.py", "reset", *options],
        cwd=clone,
        env={"PATH": os.environ["PATH"]},
        input=typed,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_a_reset_asks_first_and_leaves_an_empty_database(clone: Path) -> None:
    nothing = reset(clone, "--yes")
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert "Nothing to reset" in nothing.stderr
    with launched(clone) as first:
        assert first.create_task().status_code == 201
        assert first.interrupt() == 0
    for typed in ("", "n\n"):
        refused = reset(clone, typed=typed)
        assert refused.returncode == 1
        assert "This deletes all tasks" in refused.stdout
        assert "Nothing was deleted" in refused.stderr
        assert (clone / ".postgres" / "data").exists()
    env_file = (clone / ".env").read_text()
    assert reset(clone, typed="yes\n").returncode == 0
    assert not list(clone.glob(".postgres/data*"))
    with launched(clone) as second:
        assert second.titles() == []
        assert (clone / ".env").read_text() == env_file


@pytest.mark.slow
def test_a_reset_waits_for_dev_py_but_not_for_what_a_killed_one_left(clone: Path) -> None:
    with launched(clone) as launch:
        assert launch.create_task().status_code == 201
        refused = reset(clone, "--yes")
        assert refused.returncode == 1
        assert "dev.py already runs in this folder" in refused.stderr
        assert len(launch.titles()) == 1
        launch.process.kill()
        launch.process.wait()
        wait_for(lambda: {process.info["name"] for process in processes_of(clone)} == {"postgres"})
        assert reset(clone, "--yes").returncode == 0
        assert processes_of(clone) == []
