"""Turn users and their habits into requests, workers, connections, cores and storage.

For example: `uv run -m scaling.size --users 1000000 --active 0.2 --requests 50`.
"""

import math
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from scaling import figures

DAY = 86_400
YEAR = 365.25
BIG_POSTGRES_CORES = 64
"""Cores of a large machine, as clouds rent it for one PostgreSQL."""
YEARS_OF_IDS = 10
"""Below so many years, something has to be planned."""


@dataclass(frozen=True)
class Habits:
    """Who uses the service, and how."""

    users: float
    active: float
    requests: float
    peak: float
    tasks: float
    growth: float


@dataclass(frozen=True)
class Need:
    """What the habits need at their peak."""

    requests_per_second: float
    workers: int
    postgres_cores: int
    connections: int
    commits_per_second: float
    storage_gb: float
    creations_per_day: float
    years_of_ids: float
    """In a single database."""

    @property
    def databases(self) -> int:
        """Databases, each with users of its own, so that each has enough cores."""
        return math.ceil(self.postgres_cores / BIG_POSTGRES_CORES)

    @property
    def memory_gb(self) -> float:
        """Memory of all workers."""
        return self.workers * figures.WORKER_MB / 1000


def need_of(habits: Habits) -> Need:
    """Work out what the habits need, with every core busy for at most `MAX_USE` of the time."""
    per_day = habits.users * habits.active * habits.requests
    at_peak = per_day / DAY * habits.peak
    workers = _cores(at_peak * figures.SERVICE_US)
    creations = per_day * figures.CREATIONS
    tasks = habits.users * habits.tasks * (1 + habits.growth)
    return Need(
        requests_per_second=at_peak,
        workers=workers,
        postgres_cores=_cores(at_peak * figures.POSTGRES_US),
        connections=workers * figures.WORKER_CONNECTIONS,
        commits_per_second=at_peak * figures.WRITES,
        storage_gb=(tasks * figures.BYTES_PER_TASK + creations * figures.BYTES_PER_KEY) / 1e9,
        creations_per_day=creations,
        years_of_ids=figures.MAX_ID / creations / YEAR if creations else math.inf,
    )


def _cores(microseconds_per_second: float) -> int:
    return max(1, math.ceil(microseconds_per_second / 1e6 / figures.MAX_USE))


def steps(need: Need) -> Iterator[str]:
    """Say what is due, in the order in which it becomes due."""
    if need.workers > 1:
        yield f"{need.workers} workers: instances of one each, or WEB_CONCURRENCY"
    if need.connections > figures.POSTGRES_CONNECTIONS:
        yield "PgBouncer in transaction mode: more connections than PostgreSQL allows by default"
    cores = math.ceil(need.postgres_cores / need.databases)
    if cores > 1:
        yield f"{cores} cores for PostgreSQL"
    if need.databases > 1:
        yield f"{need.databases} databases, each with users of its own"
    if need.years_of_ids < YEARS_OF_IDS:
        databases = math.ceil(YEARS_OF_IDS / need.years_of_ids)
        yield f"before the ids end: {databases:,} databases, or BIGINT ids, another contract"
    if need.workers == 1 and need.years_of_ids >= YEARS_OF_IDS:
        yield "nothing: one worker and any PostgreSQL are enough"


def _number(
    least: float, most: float = math.inf, kind: Callable[[str], float] = float
) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or math.isinf(value):
            between = f"from {least:g} to {most:g}" if most < math.inf else f"of {least:g} or more"
            raise ArgumentTypeError(f"{text!r} is not a number {between}")
        return value

    return parse


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what the users need."""
    parser = ArgumentParser("scaling.size", description=__doc__.splitlines()[0])
    parser.formatter_class = ArgumentDefaultsHelpFormatter
    add = parser.add_argument
    add("--users", type=_number(1), default=100_000, help="who have an account")
    add("--active", type=_number(0, 1), default=0.2, help="the part that is active in a day")
    add("--requests", type=_number(0), default=50, help="requests of an active user in a day")
    add("--peak", type=_number(1), default=4, help="the busiest second, in average seconds")
    add("--tasks", type=_number(0), default=100, help="tasks that a user keeps")
    add("--growth", type=_number(0), default=0.5, help="part of storage to hold in reserve")
    need = need_of(Habits(**vars(parser.parse_args(arguments))))
    rows = [
        ("requests per second at the peak", f"{need.requests_per_second:,.0f}"),
        ("commits per second at the peak", f"{need.commits_per_second:,.0f}"),
        ("workers, a core each", f"{need.workers:,}"),
        ("memory of the workers", f"{need.memory_gb:,.1f} GB"),
        ("connections of the workers", f"{need.connections:,}"),
        ("cores of PostgreSQL", f"{need.postgres_cores:,}"),
        ("storage of PostgreSQL", f"{need.storage_gb:,.1f} GB"),
        ("creations per day", f"{need.creations_per_day:,.0f}"),
        ("years until one database's ids end", f"{need.years_of_ids:,.1f}"),
        ("databases", f"{need.databases:,}"),
    ]
    for name, value in rows:
        print(f"{name:38}{value:>12}")
    print("\nDue, in this order:")
    for number, step in enumerate(steps(need), 1):
        print(f"{number}. {step}")


if __name__ == "__main__":
    main()
