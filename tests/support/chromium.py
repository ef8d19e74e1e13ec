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
from support.service import PATIENCE, PROJECT, Service, environment, running, wait_for

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
    sources = [*FRONTEND.glob("app/**/*"), *FRONTEND.glob("lib/*"), *FRONTEND.glob("*.config.ts")]
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
def frontend(database_url: str, token_lifetime: str = "15m") -> Iterator[tuple[str, Service]]:
    """Serve the page with its Better Auth, and the service at another origin."""
    build()
    url = f"http://localhost:{free_port()}"
    env = environment(database_url, BETTER_AUTH_URL=url, ALLOWED_ORIGINS=url)
    with running(env) as service:
        page = subprocess.Popen(
            ["node", NEXT, "start", "--port", url.rpartition(":")[2]],
            cwd=FRONTEND,
            env=os.environ
            | {
                "BETTER_AUTH_URL": url,
                "BETTER_AUTH_SECRET": "the-frontend's-own-secret-canary-0123456789",
                "API_URL": service.url,
                "TOKEN_LIFETIME": token_lifetime,
            },
        )
        try:
            wait_for(lambda: answers(url))
            yield url, service
        finally:
            page.terminate()
            page.wait(timeout=PATIENCE)


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url).is_success
    return False
