"""A failover costs seconds, and neither loses nor doubles an acknowledged write."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import pytest

from support.failover import Client, Outage, Way, connected_ways, outage, wait_until_all_succeed
from support.load import COUNT_TOGGLES, writers_of
from support.patroni import Cluster, check_prerequisites, running_cluster
from support.postgres import connected
from support.service import wait_for

pytestmark = pytest.mark.cluster

Record = Callable[[str, object], None]
CLIENTS = 8
LINGER = 5.0
"""Seconds for which a fault goes on after another node leads."""
WAITED_FOR = 4.5
"""Seconds of an outage that certainly end before the service stops waiting for a leader (5)."""
SLOW = "2mbit"
SLOW_FOR = 20.0


def switch_over(cluster: Cluster) -> None:
    cluster.switch_over()


def restart(cluster: Cluster) -> None:
    cluster.restart_leader()


def kill(cluster: Cluster) -> None:
    leader = cluster.leader()
    leader.host.kill()
    cluster.successor(leader)
    leader.start()


def freeze(cluster: Cluster) -> None:
    leader = cluster.leader()
    with leader.host.frozen():
        cluster.successor(leader)
        time.sleep(LINGER)


def split_off(cluster: Cluster) -> None:
    leader = cluster.leader()
    others = [cluster.etcd, *(node.host for node in cluster.nodes if node is not leader)]
    with leader.host.cut_off_from(others):
        cluster.successor(leader)
        time.sleep(LINGER)


def unplug(cluster: Cluster) -> None:
    leader = cluster.leader()
    with leader.host.unplugged():
        cluster.successor(leader)
        time.sleep(LINGER)


def slow_down(cluster: Cluster) -> None:
    with cluster.leader().host.slowed(SLOW):
        time.sleep(SLOW_FOR)


@dataclass(frozen=True)
class Fault:
    happens: Callable[[Cluster], None]
    name: str


FAULTS = [
    Fault(switch_over, "switchover (`patronictl switchover`)"),
    Fault(kill, "the leader's host is killed (`kill -9`)"),
    Fault(freeze, "the leader's host is frozen (SIGSTOP), and goes on after the failover"),
]
MORE_FAULTS = [
    Fault(restart, "the leader restarts (`patronictl restart`)"),
    Fault(split_off, "the leader is cut off from etcd and the other nodes, not from the service"),
    Fault(unplug, "the leader is cut off from everybody"),
    Fault(slow_down, f"the leader's network passes {SLOW[:-4]} Mbit/s for {SLOW_FOR:.0f} s"),
]
PLANNED = {switch_over, restart}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fault" in metafunc.fixturenames:
        faults = FAULTS + (MORE_FAULTS if metafunc.config.getoption("--full") else [])
        metafunc.parametrize("fault", faults, ids=[fault.happens.__name__ for fault in faults])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    check_prerequisites()
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def ways(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[list[Way]]:
    full = request.config.getoption("--full")
    with connected_ways(cluster, with_pgbouncer=full) as ways:
        for way in ways:
            wait_for(partial(is_healthy, way))
        with connected(cluster.leader().url) as cursor:
            cursor.execute(COUNT_TOGGLES)
        yield ways


def is_healthy(way: Way) -> bool:
    return way.service.client.get("/health").is_success


def test_a_failover_loses_and_doubles_nothing(
    cluster: Cluster,
    ways: list[Way],
    fault: Fault,
    sized: Callable[[int, int], int],
    record_property: Record,
) -> None:
    times = sized(1, 5)
    spans = []
    cluster.wait_until_whole()
    with ExitStack() as stack:
        loads = [stack.enter_context(writers_of(Client, way.service, CLIENTS)) for way in ways]
        everybody = [client for load in loads for client in load]
        for _ in range(times):
            wait_until_all_succeed(everybody)
            began = time.monotonic()
            fault.happens(cluster)
            cluster.wait_until_whole()
            wait_until_all_succeed(everybody)
            spans.append((began, time.monotonic()))
    for way, clients in zip(ways, loads, strict=True):
        assert [line for client in clients for line in client.went_back] == []
        for client in clients:
            client.assert_nothing_lost(cluster.leader().url)
        outages = [outage(clients, began, ended) for began, ended in spans]
        record_property(*row(fault, way, clients, outages))
        # PgBouncer itself refuses its clients while it finds no server.
        if fault.happens in PLANNED and not way.name.startswith("PgBouncer"):
            short = [each for each in outages if each.seconds < WAITED_FOR]
            # What is in execution at its beginning fails: at most one request of each client.
            assert all(each.failed <= CLIENTS for each in short), (way.name, outages)


def row(fault: Fault, way: Way, clients: list[Client], outages: list[Outage]) -> tuple[str, str]:
    failed = [each.failed for each in outages]
    seconds = [each.seconds for each in outages]
    kept = sum(len(client.acknowledged) + client.toggles[200] for client in clients)
    cost = (
        f"{kept:,} acknowledged writes, 0 lost, none stored twice; {sum(failed)} requests failed,"
        f" at most {max(failed)} each time"
    )
    gap = f"median {statistics.median(seconds):.1f} s, at most {max(seconds):.1f} s"
    return f"{fault.name}; {way.name}", f"{len(outages)} | {cost} | {gap}"
