"""Hold the model against the service: the same clients, measured and simulated.

`uv run --group scaling -m scaling.validate` takes five minutes and needs wrk. The CPU times are
those of the same run, because a virtual machine's speed changes within minutes: the model predicts
what queues make of them.
"""

import resource
import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import urlsplit

import psycopg2

from benchmarks.apps import App, Load, migrate, prepare, running
from benchmarks.data import Database, filled_database, postgres
from benchmarks.operations import OPERATIONS
from benchmarks.results import machine, options_parser, table, write
from scaling.distance import distant
from scaling.figures import MIX, Operation
from scaling.simulate import Setup, Simulation

ROWS = 100_000
SIMULATED_SECONDS = 2.0
TRIES = 200
SELECT = "SELECT completed FROM tasks WHERE id = 1"
UPDATE = "UPDATE tasks SET completed = NOT completed WHERE id = 1 RETURNING completed"
HEADER = ("", "workers", "connections of each", "distance ms", "clients")


class Case(NamedTuple):
    """What the service runs on, and how many clients it has."""

    setup: Setup
    clients: int


CASES = [
    Case(Setup(), 1),
    Case(Setup(), 32),
    Case(Setup(), 128),
    Case(Setup(workers=2), 32),
    Case(Setup(workers=2), 128),
    Case(Setup(connections=20), 32),
    Case(Setup(distance_ms=5), 128),
    Case(Setup(distance_ms=5, connections=20), 128),
]


def commit_ms(database: Database) -> float:
    """Return how much longer a small change takes than reading it."""
    connection = psycopg2.connect(database.url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        read = _median(lambda: cursor.execute(SELECT))
        changed = _median(lambda: cursor.execute(UPDATE))
    connection.close()
    return (changed - read) * 1000


def _median(call: Callable[[], None]) -> float:
    times = []
    for _ in range(TRIES):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


class Run(NamedTuple):
    """What wrk counted, and its own CPU time for each request."""

    load: Load
    client_us: float


def measure(case: Case, database: Database, options: Namespace) -> dict[str, Run]:
    """Return the median run of each operation."""
    port = urlsplit(database.url).port
    assert port
    setup = case.setup
    with distant(port, setup.distance_ms) as far:
        url = database.url.replace(f":{port}/", f":{far}/") if setup.distance_ms else database.url
        app = App("service", replace(database, url=url), "service", setup.workers)
        app.variables = {"DB_POOL_SIZE": str(setup.connections)}
        with running(app):
            loads = {name: _median_run(app, name, case.clients, options) for name in MIX}
    print(f"{setup.workers} workers, {case.clients} clients", file=sys.stderr)
    return loads


def _median_run(app: App, name: str, clients: int, options: Namespace) -> Run:
    operation = OPERATIONS[name]
    app.check(operation)
    app.drive(operation, clients, 1)  # to warm up
    runs = []
    for number in range(options.rounds):
        before = _children_seconds()
        load = app.drive(operation, clients, options.seconds, number)
        requests = load.requests_per_second * options.seconds
        runs.append(Run(load, (_children_seconds() - before) / requests * 1e6))
    runs.sort(key=lambda run: run.load.requests_per_second)
    return runs[len(runs) // 2]


def _children_seconds() -> float:
    """Return the CPU time of the processes that have ended: wrk's."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Measure, simulate, and write both."""
    options = options_parser(__doc__, rounds=3, seconds=2).parse_args()
    cases = CASES
    if options.smoke:
        options.rounds, options.seconds, cases = 1, 1, [CASES[0], CASES[-1]]
    prepare()
    with postgres() as server, filled_database(server, "validate", ROWS, migrate) as database:
        about = machine(server)
        found = {case: measure(case, database, options) for case in cases}
        commit = commit_ms(database)
    rows = []
    for (setup, clients), runs in found.items():
        for name, (load, client_us) in runs.items():
            operation = Operation(1, load.app_cpu_us, load.database_cpu_us, MIX[name].writes)
            own = replace(setup, commit_ms=commit, client_us=client_us)
            outcome = Simulation(own, {name: operation}).closed(clients, SIMULATED_SECONDS)
            measured, model = load.requests_per_second, outcome.requests_per_second
            about_it = (name, setup.workers, setup.connections, setup.distance_ms, clients)
            figures = f"{measured:,.0f}", f"{model:,.0f}", f"{model / measured:.2f}"
            rows.append([*about_it, *figures, f"{load.p50_ms:.1f}", f"{outcome.p50_ms:.1f}"])
    header = [*HEADER, "requests/s", "simulated", "ratio", "p50 ms", "simulated"]
    parts = [about, f"A commit takes {commit:.2f} ms.\n", table(header, rows)]
    write(options.output, "validate", parts)


if __name__ == "__main__":
    main()
