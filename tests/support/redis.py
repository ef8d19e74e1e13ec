"""A Redis server of a test's own, which it may stop and freeze."""

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from support.network import free_port
from support.service import PATIENCE, wait_for


class Redis:
    """Debian's `redis-server`, which keeps nothing on disk and demands a password."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"redis://:redis-canary@127.0.0.1:{self._port}/0"
        self.start()

    def start(self) -> None:
        options = ["--port", str(self._port), "--save", "", "--requirepass", "redis-canary"]
        self._process = subprocess.Popen(
            ["redis-server", *options, "--bind", "127.0.0.1", "--dir", self._folder],
            stdout=subprocess.DEVNULL,
        )
        wait_for(self._listens)

    def _listens(self) -> bool:
        assert self._process.poll() is None
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def connections(self) -> int:
        """Return how many it has ever been asked for."""
        with redis.Redis.from_url(self.url) as client:
            return int(client.info("stats")["total_connections_received"])

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)
