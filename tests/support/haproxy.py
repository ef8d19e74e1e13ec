"""Two instances of the service behind HAProxy, configured as `docs/haproxy.cfg` says."""

import csv
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from support.network import free_port
from support.service import PATIENCE, PROJECT, wait_for

SERVERS = ("one", "two")


class Instance:
    """The service on a port of its own, which may be restarted."""

    def __init__(self, env: Mapping[str, str], log: Path, project: Path = PROJECT) -> None:
        self.project = project
        self.port = free_port()
        self.env = {**env, "PORT": str(self.port)}
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "main.py"],
                cwd=self.project,
                env=self.env,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        wait_for(self.answers)

    def stop(self) -> int:
        assert self.process
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=PATIENCE).is_success
        except httpx.TransportError:
            return False


class Proxy:
    """HAProxy as a configuration in `docs/` says, at other addresses."""

    def __init__(self, folder: Path, name: str, addresses: Mapping[str, str]) -> None:
        self.configuration = folder / name
        text = (PROJECT / "docs" / name).read_text(encoding="utf-8")
        for written, real in addresses.items():
            assert text.count(written) == 1
            text = text.replace(written, real)
        self.configuration.write_text(text, encoding="utf-8")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "HAProxy is not installed: apt-get install haproxy"
        # -db: in the foreground. -W is left out: one process that ends at SIGTERM.
        self.process = subprocess.Popen([program, "-db", "-f", str(self.configuration)])

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(PATIENCE)


class HAProxy(Proxy):
    """HAProxy in front of the instances."""

    def __init__(self, folder: Path, instances: Sequence[Instance]) -> None:
        self.instances = instances
        self.port = free_port()
        self.socket = folder / "haproxy.sock"
        ports = {8000: self.port, 8001: instances[0].port, 8002: instances[1].port}
        addresses = {f"127.0.0.1:{port}": f"127.0.0.1:{real}" for port, real in ports.items()}
        super().__init__(
            folder,
            "haproxy.cfg",
            addresses | {"/run/haproxy/admin.sock mode": f"{self.socket} mode"},
        )

    def start(self) -> None:
        super().start()
        wait_for(self.socket.exists)

    def restart(self, number: int) -> int:
        """Restart an instance as an operator does; return its exit code."""
        code = self.instances[number].stop()
        wait_for(lambda: self.status(SERVERS[number]) == "DOWN")
        self.instances[number].start()
        wait_for(lambda: self.status(SERVERS[number]) == "UP")
        return code

    def status(self, server: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            connection.sendall(b"show stat\n")
            with connection.makefile(encoding="utf-8") as answer:
                rows = [row for row in csv.DictReader(answer) if row["svname"] == server]
        return rows[0]["status"]


@contextmanager
def behind_haproxy(
    env: Mapping[str, str], folder: Path, project: Path = PROJECT
) -> Iterator[HAProxy]:
    """Run two instances of a version of the project behind HAProxy."""
    instances = [Instance(env, folder / f"{name}.log", project) for name in SERVERS]
    haproxy = HAProxy(folder, instances)
    try:
        for instance in instances:
            instance.start()
        haproxy.start()
        yield haproxy
    finally:
        haproxy.stop()
        for instance in instances:
            if instance.process:
                instance.stop()
