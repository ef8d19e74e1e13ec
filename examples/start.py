"""Start the example frontend and the service together: `uv run examples/start.py`.

It needs Node.js 20 or newer. PAGE_PORT and PORT change the ports, 3000 and 8000.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn

FRONTEND = Path(__file__).parent / "frontend"
PROJECT = FRONTEND.parent.parent
NEXT = Path("node_modules", "next", "dist", "bin", "next")


def main() -> None:
    """Build the frontend, and run it with the service until Ctrl-C."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        sys.exit("The example needs Node.js 20 or newer: https://nodejs.org")
    page = f"http://localhost:{os.environ.get('PAGE_PORT', '3000')}"
    api = f"http://localhost:{os.environ.get('PORT', '8000')}"
    frontend = {
        "NEXT_TELEMETRY_DISABLED": "1",
        "BETTER_AUTH_URL": page,
        # A new secret each time: users are in memory, so no session outlives the process.
        "BETTER_AUTH_SECRET": secrets.token_urlsafe(36),
        "API_URL": api,
    }
    if not (FRONTEND / "node_modules").exists():
        subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=FRONTEND, check=True)
    subprocess.run([node, NEXT, "build"], cwd=FRONTEND, env=os.environ | frontend, check=True)

    service = {"BETTER_AUTH_URL": page, "ALLOWED_ORIGINS": page}
    signal.signal(signal.SIGTERM, _interrupt)
    programs = [
        subprocess.Popen([sys.executable, "dev.py"], cwd=PROJECT, env=os.environ | service),
        subprocess.Popen(
            [node, NEXT, "start", "--port", page.rpartition(":")[2]],
            cwd=FRONTEND,
            env=os.environ | frontend,
        ),
    ]
    try:
        while all(program.poll() is None for program in programs):
            time.sleep(0.2)
    except KeyboardInterrupt:
        pass
    finally:
        # Ctrl-C arrives twice: from the terminal, and from uv.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for program in programs:
            program.terminate()
        for program in programs:
            program.wait()


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
