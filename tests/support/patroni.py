"""A cluster: three PostgreSQL that Patroni keeps, and the etcd in which it keeps who leads."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from dev_postgres import BINARIES
from support.namespaces import Host, hosts, ip, with_sbin
from support.postgres import connected, passable_folder
from support.service import wait_for

NODES = 3
SCOPE = "tasks"
TTL = 20
"""Seconds after which a leader that says nothing has lost its place; Patroni allows no fewer."""
BOOTSTRAP = {
    "dcs": {
        "ttl": TTL,
        "loop_wait": 5,
        "retry_timeout": 5,
        "synchronous_mode": True,
        # The leader stays if etcd is away and all other nodes agree.
        "failsafe_mode": True,
        "postgresql": {"use_pg_rewind": True, "parameters": {"max_connections": 200}},
    },
    "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
}
PACKAGES = {
    "etcd": "etcd-server",
    "haproxy": "haproxy",
    "pgbouncer": "pgbouncer",
    "ip": "iproute2",
    "iptables": "iptables",
}


def check_prerequisites() -> None:
    """Say what to install if something is missing."""
    missing = [
        package
        for program, package in PACKAGES.items()
        if not shutil.which(program, path=with_sbin()["PATH"])
    ]
    assert not missing, f"missing: apt-get install {' '.join(missing)}"
    patroni = Path(sys.executable).parent / "patroni"
    assert patroni.exists(), "Patroni is missing: uv run --group cluster pytest -m cluster"
    assert os.geteuid() == 0, "network namespaces need root"


class Node:
    """A host with a PostgreSQL and its Patroni."""

    def __init__(self, host: Host, folder: Path, etcd: Host, password: str) -> None:
        self.host = host
        self.name = host.name
        self.server = f"{host.address}:5432"
        self.url = f"postgresql://postgres:{password}@{self.server}/tasks"
        self.api = f"http://{host.address}:8008"
        self.log = folder / f"{host.name}.log"
        self.settings = folder / f"{host.name}.yml"
        postgresql: dict[str, Any] = {
            "listen": self.server,
            "connect_address": self.server,
            "data_dir": f"{folder}/{host.name}",
            "bin_dir": str(BINARIES),
            "pgpass": f"{folder}/{host.name}.pgpass",
            "authentication": {
                user: {"username": "postgres", "password": password}
                for user in ("superuser", "replication", "rewind")
            },
            "pg_hba": [
                "host all all all scram-sha-256",
                "host replication all all scram-sha-256",
            ],
            "parameters": {"unix_socket_directories": ""},
        }
        settings = {
            "scope": SCOPE,
            "name": host.name,
            "restapi": {"listen": f"{host.address}:8008", "connect_address": self.api[7:]},
            "etcd3": {"hosts": [f"{etcd.address}:2379"]},
            "bootstrap": BOOTSTRAP,
            "postgresql": postgresql,
        }
        self.settings.write_text(json.dumps(settings))  # JSON is YAML too
        self.settings.chmod(0o644)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = Path(sys.executable).parent / "patroni"
        self.process = self.host.start([program, self.settings], self.log)

    def stop(self) -> None:
        """Let Patroni stop its PostgreSQL."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def members(self) -> list[dict[str, Any]]:
        """Ask it who takes part; nobody does if it does not answer."""
        try:
            response = httpx.get(f"{self.api}/cluster", timeout=3)
        except httpx.TransportError:
            return []
        members: list[dict[str, Any]] = response.json().get("members", [])
        return members


class Cluster:
    """The nodes, and what an operator does with them."""

    def __init__(self, folder: Path, etcd: Host, nodes: list[Host]) -> None:
        self.folder = folder
        self.etcd = etcd
        self.password = secrets.token_urlsafe(24)
        self.nodes = [Node(host, folder, etcd, self.password) for host in nodes]

    @property
    def url(self) -> str:
        """The URL that names all nodes and asks for the one that can write."""
        servers = ",".join(node.server for node in self.nodes)
        return (
            f"postgresql://postgres:{self.password}@{servers}/tasks?target_session_attrs=read-write"
        )

    def start(self) -> None:
        client = f"http://{self.etcd.address}:2379"
        peer = "http://127.0.0.1:2380"
        options = {
            "data-dir": f"{self.folder}/etcd",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
        }
        command = ["etcd", *(f"--{name}={value}" for name, value in options.items())]
        self.etcd.start(command, self.folder / "etcd.log")
        for node in self.nodes:
            node.start()
        self.wait_until_whole()
        with connected(self.leader().url.replace("/tasks", "/postgres")) as cursor:
            cursor.execute("CREATE DATABASE tasks")

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()
        for node in self.nodes:
            if node.process:
                with suppress(subprocess.TimeoutExpired):
                    node.process.wait(30)

    def leader(self) -> Node:
        """Wait until all nodes that answer agree on a leader that runs."""
        node: Node = wait_for(self._leader)
        return node

    def _leader(self, besides: Node | None = None) -> Node | None:
        views = [node.members() for node in self.nodes if node is not besides]
        names = {
            member["name"]
            for view in views
            for member in view
            if member["role"] == "leader" and member["state"] == "running"
        }
        found = [node for node in self.nodes if names == {node.name} and node is not besides]
        return found[0] if found else None

    def successor(self, leader: Node) -> Node:
        """Wait until another node leads, whatever the old leader says."""
        node: Node = wait_for(lambda: self._leader(leader))
        return node

    def wait_until_whole(self) -> None:
        """Wait for a leader, a synchronous standby and another one, both up to date."""
        wait_for(self._is_whole)

    def _is_whole(self) -> bool:
        views = [node.members() for node in self.nodes]
        return all(
            sorted((each["role"], each["state"]) for each in view)
            == [("leader", "running"), ("replica", "streaming"), ("sync_standby", "streaming")]
            for view in views
        )

    def switch_over(self) -> None:
        """Hand the leader's place over to the synchronous standby."""
        leader = self.leader()
        roles = {member["role"]: member["name"] for member in leader.members()}
        self._patronictl(
            "switchover", "--leader", leader.name, "--candidate", roles["sync_standby"], SCOPE
        )
        self.successor(leader)

    def restart_leader(self) -> None:
        self._patronictl("restart", SCOPE, self.leader().name)

    def _patronictl(self, command: str, *arguments: str) -> None:
        program = Path(sys.executable).parent / "patronictl"
        settings = self.nodes[0].settings
        done = subprocess.run(
            [program, "-c", settings, command, *arguments, "--force"],
            check=False,
            capture_output=True,
            text=True,
        )
        assert not done.returncode, done.stdout + done.stderr

    def versions(self) -> str:
        """Name what takes part, for the report."""
        from importlib.metadata import version  # noqa: PLC0415  # here is where it is needed

        with connected(self.leader().url) as cursor:
            cursor.execute("SHOW server_version")
            [(postgresql,)] = cursor.fetchall()
        etcd = ip("--version", tool="etcd").split()[2]
        haproxy = ip("-v", tool="haproxy").split()[2]
        return f"Patroni {version('patroni')}, etcd {etcd}, HAProxy {haproxy}, {postgresql}"


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Start etcd and three nodes, each on a host of its own."""
    with passable_folder() as folder, hosts(NODES + 1) as machines:
        shutil.chown(folder, "nobody", "nogroup")
        cluster = Cluster(folder, machines[0], machines[1:])
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
