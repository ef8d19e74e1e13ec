"""Start the example frontend and the service together: `uv run examples/start.py`.

It needs Node.js 20.9 or newer. PAGE_PORT and PORT change the ports, 3000 and 8000.
TOKENS=shared-secret lets the page sign its tokens with a secret that the service knows.
"""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, suppress
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import fasteners
import psycopg2
from psycopg2.errors import DuplicateDatabase

FRONTEND = Path(__file__).parent / "frontend"
PROJECT = FRONTEND.parent.parent
NEXT = Path("node_modules", "next", "dist", "bin", "next")
POSTGRES = PROJECT / ".postgres"
OLDEST_NODE = (20, 9)
START_TIMEOUT = 120
END_TIMEOUT = 10
"""Seconds in which the page may end by itself."""
WAYS = ("own-keys", "shared-secret")

sys.path.insert(0, str(PROJECT))
from dev_postgres import EmbeddedPostgres  # noqa: E402  # one folder up


def check() -> tuple[str, str, int, int]:
    """Find Node and npm, and end with one sentence if something is in the way."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        sys.exit("The example needs Node.js 20.9 or newer: https://nodejs.org")
    version = subprocess.check_output([node, "--version"], text=True).strip()
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < OLDEST_NODE:
        sys.exit(f"The example needs Node.js 20.9 or newer; this is {version}.")
    if os.environ.get("TOKENS", WAYS[0]) not in WAYS:
        sys.exit(f"TOKENS is one of {', '.join(WAYS)}.")
    ports: dict[str, int] = {}
    for name, default in (("PAGE_PORT", "3000"), ("PORT", "8000")):
        value = os.environ.get(name, default)
        if not value.isdecimal() or int(value) in ports.values():
            sys.exit(f"{name} is not a port of its own: {value}")
        ports[name] = int(value)
        if is_taken(ports[name]):
            sys.exit(f"Port {value} is taken: end what uses it, or set {name} to another one.")
    if POSTGRES.exists():
        lock = fasteners.InterProcessLock(POSTGRES / "lock")
        if not lock.acquire(blocking=False):
            sys.exit("dev.py already runs in this folder: end it with Ctrl-C there first.")
        lock.release()
    return node, npm, ports["PAGE_PORT"], ports["PORT"]


def is_taken(port: int) -> bool:
    """Tell whether something listens on the port, of either protocol."""
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with suppress(OSError), socket.socket(family) as probe:
            probe.settimeout(1)
            if probe.connect_ex((host, port)) == 0:
                return True
    return False


def kept_secret() -> str:
    """Return the page's secret, the same after a restart: it signs the sessions."""
    file = FRONTEND / ".env.local"
    if not file.exists():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            opened.write(f"BETTER_AUTH_SECRET={secrets.token_urlsafe(36)}\n")
    return file.read_text().partition("=")[2].strip()


def users_database() -> str:
    """Create the users' database beside the tasks', unless it is there, and return its URL."""
    url = EmbeddedPostgres(POSTGRES).url
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with suppress(DuplicateDatabase), connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE users")
    return urlsplit(url)._replace(path="/users").geturl()


def main() -> None:
    """Build the frontend, and run it with the service until Ctrl-C."""
    node, npm, page_port, port = check()
    page, api = f"http://localhost:{page_port}", f"http://localhost:{port}"
    secret = kept_secret()
    frontend = {
        "NEXT_TELEMETRY_DISABLED": "1",
        "BETTER_AUTH_URL": page,
        "BETTER_AUTH_SECRET": secret,
        "API_URL": api,
    }
    if not (FRONTEND / "node_modules").exists():
        subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=FRONTEND, check=True)
    subprocess.run([node, NEXT, "build"], cwd=FRONTEND, env=os.environ | frontend, check=True)

    service = {"ALLOWED_ORIGINS": page}
    if os.environ.get("TOKENS") == "shared-secret":
        service |= {"BETTER_AUTH_SECRET": secret, "BETTER_AUTH_URL": ""}
    else:
        service |= {"BETTER_AUTH_URL": page}
    programs: list[subprocess.Popen[bytes]] = []
    # SIGINT too: a script's shell lets what it starts with `&` ignore it.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, _interrupt)
    try:
        programs.append(
            subprocess.Popen([sys.executable, "dev.py"], cwd=PROJECT, env=os.environ | service)
        )
        wait_for(f"{api}/health", programs[0])
        programs.append(
            subprocess.Popen(
                [node, NEXT, "start", "--port", str(page_port)],
                cwd=FRONTEND,
                env=os.environ | frontend | {"USERS_DATABASE_URL": users_database()},
            )
        )
        while all(program.poll() is None for program in programs):
            time.sleep(0.2)
    except KeyboardInterrupt:
        pass
    finally:
        # Ctrl-C arrives twice: from the terminal, and from uv.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # The page first: it has connections to the PostgreSQL that dev.py stops.
        for program in reversed(programs):
            program.terminate()
            try:
                program.wait(None if program is programs[0] else END_TIMEOUT)
            except subprocess.TimeoutExpired:
                # Next.js waits for browsers that keep their connections open.
                program.kill()
                program.wait()


def wait_for(url: str, program: subprocess.Popen[bytes]) -> None:
    """Wait until the service answers."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if program.poll() is not None:
            sys.exit("The service did not start; what it says is above.")
        with suppress(OSError):
            urllib.request.urlopen(url, timeout=3).close()  # noqa: S310  # http, as it says
            return
        time.sleep(0.2)
    sys.exit(f"The service does not answer at {url}.")


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
