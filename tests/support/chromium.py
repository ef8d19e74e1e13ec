"""The example frontend, built and served, and Debian's Chromium to use it with."""

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fasteners
import httpx
import pytest

from support.network import free_port
from support.postgres import new_database
from support.service import PATIENCE, PROJECT, Service, environment, running, wait_for

BUILD_PATIENCE = 900.0
"""Seconds for a build of the page, which takes 20 on an idle machine."""
PAGE_SECRET = "the-frontend's-own-secret-canary-0123456789"
FRONTEND = PROJECT / "examples" / "frontend"
NEXT = FRONTEND / "node_modules" / "next" / "dist" / "bin" / "next"
CHROMIUM = "/usr/bin/chromium"
# No sandbox: CI is root. The others keep it from calling its makers.
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def check_prerequisites() -> None:
    """Fail with what to install, if something is missing."""
    missing = [
        what
        for what, found in {
            "Chromium (apt-get install chromium)": Path(CHROMIUM).exists(),
            "Node.js 20 or newer": shutil.which("node"),
            "npm ci --prefix examples/frontend": NEXT.exists(),
            "uv run --group browser": importlib.util.find_spec("playwright"),
        }.items()
        if not found
    ]
    if missing:
        pytest.fail(f"The browser suite needs: {'; '.join(missing)}")


def build() -> None:
    """Build the page, unless these sources are built: another run may be serving them."""
    sources = [*FRONTEND.glob("app/**/*"), *FRONTEND.glob("lib/*"), *FRONTEND.glob("*.ts")]
    sources = sorted(path for path in sources if path.is_file())
    lock = FRONTEND / "package-lock.json"
    contents = [path.read_bytes() for path in [*sources, lock]]
    digest = hashlib.sha256(b"\0".join(contents)).hexdigest()
    built = FRONTEND / ".next" / "built"
    with fasteners.InterProcessLock(FRONTEND / "node_modules" / ".building"):
        if built.exists() and built.read_text() == digest:
            return
        subprocess.run(
            ["node", NEXT, "build"],
            cwd=FRONTEND,
            env=os.environ | {"NEXT_TELEMETRY_DISABLED": "1", "BETTER_AUTH_SECRET": "x" * 32},
            check=True,
        )
        built.write_text(digest)


@contextmanager
def served_page(url: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Serve the page with its Better Auth."""
    build()
    page = subprocess.Popen(
        ["node", NEXT, "start", "--port", url.rpartition(":")[2]],
        cwd=FRONTEND,
        env=os.environ | {"BETTER_AUTH_URL": url, "BETTER_AUTH_SECRET": PAGE_SECRET, **variables},
    )
    try:
        wait_for(lambda: answers(url))
        yield page
    finally:
        page.terminate()
        page.wait(timeout=PATIENCE)


@contextmanager
def frontend(database_url: str, **variables: str) -> Iterator[tuple[str, Service]]:
    """Serve the page, and the service at another origin."""
    url = f"http://localhost:{free_port()}"
    env = environment(database_url, BETTER_AUTH_URL=url, ALLOWED_ORIGINS=url)
    if variables.get("TOKENS") == "shared-secret":
        env |= {"BETTER_AUTH_URL": "", "BETTER_AUTH_SECRET": PAGE_SECRET}
    with running(env) as service, new_database() as users:
        variables = {"API_URL": service.url, "USERS_DATABASE_URL": users} | variables
        with served_page(url, **variables):
            yield url, service


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url).is_success
    return False
