"""A model of the service: queues for cores, connections and commits, with times as measured.

`uv run --group scaling -m scaling.simulate` says which part saturates first, and what p99 is
before.
"""

import random
from argparse import ArgumentParser
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from statistics import quantiles
from typing import Any

from simpy import Environment, Process, Resource

from scaling.figures import MIX, Operation

BEFORE = 0.6
"""The part of a worker's CPU time that a request takes before its statement."""
Steps = Generator[Any, Any, None]


@dataclass(frozen=True)
class Setup:
    """What the requests run on."""

    workers: int = 1
    cores: int = 2
    """Of the machine of the workers."""
    postgres_cores: int = 0
    """Of PostgreSQL's own machine; 0 if it shares the workers'."""
    connections: int = 10
    """Of each worker."""
    commit_ms: float = 1.0
    """Until PostgreSQL has written a commit to its disk."""
    distance_ms: float = 0.0
    """From a worker to PostgreSQL and back."""
    wake_us: float = 0.0
    """Until a process that slept runs again."""
    client_us: float = 0.0
    """CPU time of a client on the same machine."""


@dataclass(frozen=True)
class Outcome:
    """What the simulated clients saw, and how busy each part was."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    busy: Mapping[str, float]


class _Machine:
    """Cores that processes share, and the time that they were busy."""

    def __init__(self, environment: Environment, cores: int) -> None:
        self._cores = Resource(environment, cores)
        self._environment = environment
        self.busy = 0.0

    def work(self, microseconds: float) -> Steps:
        """Wait for a core, and keep it for so long."""
        with self._cores.request() as core:
            yield core
            yield self._environment.timeout(microseconds / 1e6)
            self.busy += microseconds / 1e6


class _Disk:
    """Where commits go: those that come while one is written are written together after it."""

    def __init__(self, environment: Environment, seconds: float) -> None:
        self._environment = environment
        self._seconds = seconds
        self._running: Process | None = None
        self._next: Process | None = None

    def commit(self) -> Steps:
        """Wait until a write has ended that began after the call."""
        if self._next is None:
            self._next = self._environment.process(self._write())
        yield self._next

    def _write(self) -> Steps:
        if self._running is not None and self._running.is_alive:
            yield self._running
        self._running, self._next = self._next, None
        yield self._environment.timeout(self._seconds)


class Simulation:
    """Requests of a mix on a setup."""

    def __init__(self, setup: Setup, mix: Mapping[str, Operation], seed: int = 1) -> None:
        self._setup = setup
        self._chance = random.Random(seed)  # noqa: S311  # no secret
        self._operations = list(mix.values())
        self._shares = [operation.share for operation in self._operations]
        self._environment = environment = Environment()
        self._machine = _Machine(environment, setup.cores)
        own = _Machine(environment, setup.postgres_cores) if setup.postgres_cores else None
        self._postgres = own or self._machine
        self._loops = [Resource(environment, 1) for _ in range(setup.workers)]
        self._pools = [Resource(environment, setup.connections) for _ in range(setup.workers)]
        self._disk = _Disk(environment, setup.commit_ms / 1000)
        self._loop_busy = 0.0
        self._postgres_busy = 0.0
        self._connections_busy = 0.0
        self._durations: list[float] = []
        self._warm = 0.0

    def closed(self, clients: int, seconds: float) -> Outcome:
        """Let so many clients each send the next request as soon as they have a response."""
        for number in range(clients):
            self._environment.process(self._client(number % self._setup.workers))
        return self._run(seconds)

    def open(self, requests_per_second: float, seconds: float) -> Outcome:
        """Let requests arrive by chance, whatever has become of those before."""
        self._environment.process(self._arrivals(requests_per_second))
        return self._run(seconds)

    def _run(self, seconds: float) -> Outcome:
        # The first tenth fills the queues and does not count.
        self._warm = seconds / 10
        self._environment.run(until=seconds)
        counted = len(self._durations)
        measured = seconds - self._warm
        steps = quantiles(self._durations, n=100) if counted > 1 else [0.0] * 99
        setup = self._setup
        return Outcome(
            requests_per_second=counted / measured,
            p50_ms=steps[49] * 1000,
            p99_ms=steps[98] * 1000,
            busy={
                "workers": self._loop_busy / seconds / setup.workers,
                "PostgreSQL": self._postgres_busy / seconds / (setup.postgres_cores or setup.cores),
                "connections": self._connections_busy
                / seconds
                / (setup.workers * setup.connections),
                "cores": self._machine.busy / seconds / setup.cores,
            },
        )

    def _client(self, worker: int) -> Steps:
        while True:
            yield from self._machine.work(self._setup.client_us)
            yield from self._request(worker)

    def _arrivals(self, requests_per_second: float) -> Steps:
        while True:
            yield self._environment.timeout(self._chance.expovariate(requests_per_second))
            worker = self._chance.randrange(self._setup.workers)
            self._environment.process(self._request(worker))

    def _request(self, worker: int) -> Steps:
        environment, setup = self._environment, self._setup
        operation = self._chance.choices(self._operations, self._shares)[0]
        began = environment.now
        yield from self._in_loop(worker, operation.service_us * BEFORE)
        with self._pools[worker].request() as connection:
            yield connection
            taken = environment.now
            yield environment.timeout(setup.distance_ms / 1000 + setup.wake_us / 1e6)
            yield from self._postgres.work(operation.postgres_us)
            self._postgres_busy += operation.postgres_us / 1e6
            if operation.writes:
                yield from self._disk.commit()
            # The worker reads the result with the connection still taken.
            yield from self._in_loop(worker, operation.service_us * (1 - BEFORE))
            self._connections_busy += environment.now - taken
        if began >= self._warm:
            self._durations.append(environment.now - began)

    def _in_loop(self, worker: int, microseconds: float) -> Steps:
        loop = self._loops[worker]
        sleeps = loop.count == 0
        with loop.request() as turn:
            yield turn
            if sleeps:
                yield self._environment.timeout(self._setup.wake_us / 1e6)
            yield from self._machine.work(microseconds)
            self._loop_busy += microseconds / 1e6


def limits(setup: Setup, mix: Mapping[str, Operation]) -> dict[str, float]:
    """Return the requests per second at which each part is busy all the time."""
    shares = sum(each.share for each in mix.values())
    service, postgres, commits = (
        sum(each.share * value for each, value in zip(mix.values(), values, strict=True)) / shares
        for values in zip(
            *((each.service_us, each.postgres_us, each.writes) for each in mix.values()),
            strict=True,
        )
    )
    held = (
        postgres
        + service * (1 - BEFORE)
        + commits * setup.commit_ms * 1000
        + setup.distance_ms * 1000
        + 2 * setup.wake_us
    )
    return {
        "workers": setup.workers / service * 1e6,
        "connections": setup.workers * setup.connections / held * 1e6,
        "PostgreSQL": setup.postgres_cores / postgres * 1e6,
    }


SETUPS = {
    "1 worker, PostgreSQL near": Setup(),
    "1 worker, PostgreSQL 5 ms away": Setup(distance_ms=5),
    "the same, 20 connections": Setup(distance_ms=5, connections=20),
    "4 workers": Setup(workers=4),
    "8 workers": Setup(workers=8),
    "8 workers, PostgreSQL with 8 cores": Setup(workers=8, postgres_cores=8),
    "64 workers, PostgreSQL with 32 cores": Setup(workers=64, postgres_cores=32),
}
USES = (0.5, 0.8, 0.95)


def main() -> None:
    """Print for each setup what saturates first, and the response times before."""
    parser = ArgumentParser("scaling.simulate", description=__doc__)
    parser.add_argument("--requests", type=int, default=30_000, help="simulated for each figure")
    requests = parser.parse_args().requests
    print("| Setup | saturates first | requests/s then | p50, p99 ms at 50 %, 80 %, 95 % of it |")
    print("|---|---|---|---|")
    for name, described in SETUPS.items():
        cores = described.postgres_cores or 2
        setup = replace(described, cores=described.workers, postgres_cores=cores)
        first, most = min(limits(setup, MIX).items(), key=lambda each: each[1])
        times = []
        for use in USES:
            rate = most * use
            outcome = Simulation(setup, MIX).open(rate, requests / rate)
            times.append(f"{outcome.p50_ms:.1f}, {outcome.p99_ms:.1f}")
        print(f"| {name} | {first} | {most:,.0f} | {'; '.join(times)} |", flush=True)


if __name__ == "__main__":
    main()
