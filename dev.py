"""The developer's tool: `uv run dev.py` runs the service with all it needs on one machine.

A PostgreSQL of its own from a wheel, its data in `.postgres/`; a random secret in `.env`; the
service with reload; a demo token to try it with. The service itself does not depend on any of this.
`uv run dev.py --help` lists the other commands, which are in `dev_commands.py`.
"""

import contextlib
import multiprocessing
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
import urllib.request
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import psutil

from dev_postgres import (
    START_TIMEOUT,
    EmbeddedPostgres,
    SetupError,
    only_one,
    wait_until_it_answers,
)

if TYPE_CHECKING:
    from fastapi import FastAPI

    from config import Settings

PROJECT = Path(__file__).parent
ENV_FILE = PROJECT / ".env"
DEMO_TOKEN_LIFETIME = 24 * 3600


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


def answers(url: str) -> bool:
    """Tell whether a GET of the http URL succeeds."""
    with contextlib.suppress(OSError):
        urllib.request.urlopen(url, timeout=3).close()  # noqa: S310  # http, as it says
        return True
    return False


def introduce(settings: "Settings") -> None:
    """Print how to use the service, once it answers."""
    base = f"http://localhost:{settings.port}"
    deadline = time.monotonic() + START_TIMEOUT
    while not answers(f"{base}/health"):
        if time.monotonic() > deadline:
            return
        time.sleep(0.1)
    from dev_commands import DEMO_USER, signed_token

    secret = settings.better_auth_secret.get_secret_value()
    token = signed_token(secret, DEMO_USER, DEMO_TOKEN_LIFETIME)
    _say(f"""
The service runs. Interactive documentation: {base}/docs

A token for the user {DEMO_USER}, valid for a day (paste it behind Authorize):

{token}

Create a task:

curl -X POST {base}/api/{DEMO_USER}/tasks -H "Authorization: Bearer {token}" \
-H "Content-Type: application/json" -d '{{"title": "Buy groceries"}}'

For another user: uv run dev.py token --user bob. All commands: uv run dev.py --help
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
    from dev_commands import DEMO_USER
    from main import app

    wait_until_it_answers(os.environ["DATABASE_URL"])
    app.state.example_user = DEMO_USER
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


def serve(database_url: str) -> None:
    """Serve with reload until Ctrl-C.

    Raises:
        SetupError: A setting is wrong, or the port is taken.

    """
    import uvicorn

    from config import ConfigurationError, load_settings
    from logs import configure_logging
    from server import OPTIONS

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
        timeout_graceful_shutdown=5,
        **OPTIONS,
    )


def report(starting: "Future[None]") -> None:
    """Say that PostgreSQL has started; if it has not, end the launcher."""
    if starting.exception():
        os.kill(os.getpid(), signal.SIGTERM)
    else:
        _say("PostgreSQL runs. Starting the service …")


def run() -> None:
    """Prepare everything, serve until Ctrl-C, and end everything."""
    folder = PROJECT / ".postgres"
    folder.mkdir(mode=0o700, exist_ok=True)
    with only_one(folder), ThreadPoolExecutor(1) as executor:
        write_env_file()
        postgres = EmbeddedPostgres(folder)
        first = not postgres.data.exists()
        _say("First start: setting up PostgreSQL in .postgres/ …" if first else "Starting …")
        # Meanwhile Python imports the service, which takes seconds at the first start.
        starting = executor.submit(postgres.start)
        starting.add_done_callback(report)
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
    """Run what the command line says, and say in one line why it cannot."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), interrupt)
    os.chdir(PROJECT)
    follow_uv()
    try:
        if arguments := sys.argv[1:]:
            import dev_commands

            dev_commands.run(arguments)
        else:
            run()
    except (SetupError, PermissionError) as exc:
        sys.exit(str(exc))
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


if __name__ == "__main__":
    main()
