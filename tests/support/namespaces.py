"""Hosts in network namespaces, joined by a bridge: they can be killed, frozen and cut off."""

import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from support.service import wait_for

NETWORKS = range(256)
"""The third byte of 198.18.0.0/16, which is reserved for tests: no real network has it."""
UNPRIVILEGED = (
    *("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"),
    # An interpreter in root's home stays readable, without a change of the home's mode.
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)


def ip(*arguments: str, tool: str = "ip") -> str:
    done = subprocess.run(
        [tool, *arguments], check=False, capture_output=True, text=True, env=with_sbin()
    )
    assert not done.returncode, f"{tool} {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def with_sbin() -> dict[str, str]:
    return os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin"}


class Host:
    """A host: a namespace with one address, and the processes in it."""

    def __init__(self, bridge: str, number: int, network: int) -> None:
        self.name = f"{bridge}h{number}"
        self.address = f"198.18.{network}.{10 + number}"
        self._started: list[subprocess.Popen[bytes]] = []
        ip("netns", "add", self.name)
        # The near end is the host's cable.
        ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("link", "set", self.name, "master", bridge, "up")
        for command in (
            ("link", "set", "lo", "up"),
            ("address", "add", f"{self.address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
        ):
            ip("-n", self.name, *command)

    def start(self, command: Sequence[str | Path], log: Path) -> "subprocess.Popen[bytes]":
        """Start a program on this host as an unprivileged user."""
        with log.open("ab") as file:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *UNPRIVILEGED, *command],
                env={"PATH": with_sbin()["PATH"]},
                cwd="/",
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    @property
    def processes(self) -> list[psutil.Process]:
        processes = []
        for pid in ip("netns", "pids", self.name).split():
            with suppress(psutil.NoSuchProcess):
                processes.append(psutil.Process(int(pid)))
        return processes

    def kill(self) -> None:
        """Kill all processes, and those that they start meanwhile."""
        while processes := self.processes:
            for process in processes:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(processes, timeout=1)
        while self._started:
            self._started.pop().wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all processes, and let them go on as if no time had passed."""
        wait_for(self._all_stopped)
        try:
            yield
        finally:
            for process in self.processes:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    def _all_stopped(self) -> bool:
        going = [each for each in self.processes if each.status() != psutil.STATUS_STOPPED]
        for process in going:
            with suppress(psutil.NoSuchProcess):
                process.suspend()
        return not going

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        """Cut it off from everybody: packets vanish, and no one is told."""
        ip("link", "set", self.name, "down")
        try:
            yield
        finally:
            ip("link", "set", self.name, "up")

    @contextmanager
    def cut_off_from(self, others: Iterable["Host"]) -> Iterator[None]:
        """Cut it off from some hosts only: the others see it as ever."""
        addresses = ",".join(other.address for other in others)
        rules = (("INPUT", "-s", addresses), ("OUTPUT", "-d", addresses))
        for rule in rules:
            self._iptables("-A", *rule, "-j", "DROP")
        try:
            yield
        finally:
            for rule in rules:
                self._iptables("-D", *rule, "-j", "DROP")

    def _iptables(self, *arguments: str) -> None:
        ip("netns", "exec", self.name, "iptables", "-w", *arguments)

    @contextmanager
    def slowed(self, rate: str) -> Iterator[None]:
        """Let its network pass so many bits a second, in both directions."""
        limit = ("root", "tbf", "rate", rate, "burst", "8kb", "latency", "2s")
        ip("qdisc", "add", "dev", self.name, *limit, tool="tc")
        ip("netns", "exec", self.name, "tc", "qdisc", "add", "dev", "eth0", *limit)
        try:
            yield
        finally:
            ip("qdisc", "del", "dev", self.name, "root", tool="tc")
            ip("netns", "exec", self.name, "tc", "qdisc", "del", "dev", "eth0", "root")


@contextmanager
def hosts(number: int) -> Iterator[list[Host]]:
    """Join so many hosts by a bridge, on which this machine has an address too."""
    bridge = f"td{os.getpid()}"
    used = ip("-o", "address")
    network = next(each for each in NETWORKS if f" 198.18.{each}." not in used)
    with ExitStack() as stack:
        ip("link", "add", bridge, "type", "bridge")
        stack.callback(ip, "link", "del", bridge)
        ip("address", "add", f"198.18.{network}.1/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        joined = []
        for each in range(number):
            host = Host(bridge, each, network)
            stack.callback(ip, "netns", "del", host.name)
            stack.callback(host.kill)
            joined.append(host)
        yield joined
