"""Measure the service against a tutorial-style baseline, constant data and pgbench.

`uv run --group bench -m benchmarks.run` takes almost half an hour; with `--smoke` half a minute;
with `--connections 32 --workers 1 --only W1,W2,W3,W4` five minutes.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

from benchmarks import pgbench, report
from benchmarks.burst import cold_burst
from benchmarks.harness import (
    PROGRAMS,
    App,
    Driver,
    connected,
    cpu_seconds,
    in_turn,
    migrate,
    new_database,
    postgres,
    postmaster,
    prepare,
    running,
)
from benchmarks.report import WORKLOADS, Burst, Cell, Run
from benchmarks.results import machine, numbers, options_parser, write_results
from benchmarks.tasks import DeletePool, Owner, fill, readers

ROWS = 100_000
CEILING = ["W1", "W2"]
"""What constant data can answer."""
WARM_UP_CONNECTIONS = 8


class Benchmark:
    """The candidates on one database."""

    def __init__(self, url: str, driver: Driver, owners: list[Owner], folder: Path) -> None:
        self.url = self.pgbench_url = url
        self.driver = driver
        self.owners = owners
        self.folder = folder
        self.runs: list[Run] = []
        self.hung: dict[tuple[Cell, str], Run] = {}
        self.bursts: list[Burst] = []

    def measure(self, workers: int, options: argparse.Namespace) -> None:
        """Run every workload in alternating rounds, with so many workers in each app."""
        with contextlib.ExitStack() as stack:
            apps = [stack.enter_context(running(App(name, self.url, workers))) for name in PROGRAMS]
            if not self.runs:  # later, equal titles are in an order that only the service has
                self._compare_answers(*apps)
            for app in apps:
                self._warm_up(app, [] if options.smoke else options.only)
            for number in range(options.rounds):
                started = time.monotonic()
                for connections in options.connections:
                    for workload in options.only:
                        cell = Cell(number, workers, connections, workload)
                        self._measure_each(cell, apps, options)
                seconds = time.monotonic() - started
                print(f"Workers {workers}, round {number + 1}: {seconds:.0f} s", file=sys.stderr)

    def _measure_each(self, cell: Cell, apps: list[App], options: argparse.Namespace) -> None:
        candidates: list[App | None] = [
            app for app in apps if app.name != "ceiling" or cell.workload in CEILING
        ]
        if cell.workers == options.workers[0]:
            candidates.append(None)  # pgbench, which knows no workers
        for app in in_turn(candidates, cell.round):
            self.runs.append(
                self._drive(app, cell, options.seconds)
                if app
                else self._pgbench(cell, options.seconds)
            )

    def _drive(self, app: App, cell: Cell, seconds: int) -> Run:
        first = replace(cell, round=0), app.name
        if first in self.hung:
            # Once is enough: it costs a restart.
            return replace(self.hung[first], round=cell.round)
        self.driver.seed = cell.round
        load = self.driver.drive(app, cell.workload, connections=cell.connections, seconds=seconds)
        memory = sum(process.memory_info().rss for process in app.tree())
        hung = not load.requests or not app.settles(self.owners[0])
        if hung:
            app.stop()
            app.start()
            self._warm_up(app, [cell.workload])
        figures = asdict(load) | {"memory_mb": memory / 1e6, "hung": hung}
        run = Run(**asdict(cell), **figures, candidate=app.name)
        if hung:
            self.hung[first] = run
        return run

    def _pgbench(self, cell: Cell, seconds: int) -> Run:
        first = 0
        if cell.workload == "DELETE":
            number = pgbench.DELETES_PER_SECOND * pgbench.duration(cell.connections, seconds)
            first = self.driver.pool.first(number)
            self.driver.pool.used(number)
        before = cpu_seconds(self.driver.database)
        requests, rate = pgbench.run(
            self.pgbench_url,
            cell.workload,
            folder=self.folder,
            users=len(self.owners),
            clients=cell.connections,
            seconds=seconds,
            first=first,
        )
        return Run(
            **asdict(cell),
            candidate="pgbench",
            requests=requests,
            requests_per_second=rate,
            database_cpu_ms=(cpu_seconds(self.driver.database) - before) * 1000 / requests,
        )

    def _warm_up(self, app: App, workloads: list[str]) -> None:
        for workload in workloads:
            if app.name == "ceiling" and workload not in CEILING:
                continue
            self.driver.drive(app, workload, connections=WARM_UP_CONNECTIONS, seconds=1)

    def _compare_answers(self, service: App, baseline: App, ceiling: App) -> None:
        """End unless the apps answer alike, for else the comparison is none."""
        owner = self.owners[0]
        for path in ("", f"/{owner.first}", "?status=pending&sort=title"):
            answers = [json.loads(app.ask(owner, path) or "null") for app in (service, baseline)]
            if answers[0] != answers[1] or not answers[0]:
                sys.exit(f"The baseline answers GET {path} otherwise than the service")
        sizes = [len(app.ask(owner) or "") for app in (service, ceiling)]
        if not 0.95 * sizes[0] < sizes[1] < 1.05 * sizes[0]:
            sys.exit(f"The ceiling's list is not as large as the service's: {sizes} bytes")

    def burst(self, times: int, names: Iterable[str]) -> None:
        """Let the apps meet cold bursts."""
        for number in range(times):
            for name in names:
                failed, seconds = cold_burst(App(name, self.url), self.owners)
                self.bursts.append(Burst(number, name, failed, seconds))


def _parse() -> argparse.Namespace:
    parser = options_parser(__doc__, rounds=5, seconds=2)
    parser.add_argument("--connections", type=numbers, default=[1, 32, 128])
    parser.add_argument("--workers", type=numbers, default=[1, 2])
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=list(WORKLOADS), metavar="W1,PUT"
    )
    options = parser.parse_args()
    if unknown := set(options.only) - WORKLOADS.keys():
        parser.error(f"no such workload: {', '.join(unknown)}")
    if options.smoke:
        options.rounds, options.seconds, options.connections, options.workers = 1, 1, [8], [1]
        options.only = ["W1", "PUT", "DELETE", "MIX"]
    return options


def main() -> None:
    """Measure, write the results, and fail if a request failed that should not."""
    options = _parse()
    prepare()
    if not find_spec("matplotlib"):
        sys.exit("matplotlib is missing: uv run --group bench -m benchmarks.run")
    with postgres() as server, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        described = machine(server)
        url = new_database(server, "benchmark")
        migrate(url)
        with connected(url) as cursor:
            fill(cursor, ROWS)
            owners = readers(ROWS)
            driver = Driver.make(folder, owners, DeletePool(cursor), postmaster(server))
            benchmark = Benchmark(url, driver, owners, folder)
            benchmark.pgbench_url = pgbench.quick_login(cursor, url)
            # The baseline hangs, for as long as it is allowed to.
            benchmark.burst(options.rounds, ["service"] if options.smoke else PROGRAMS)
            for workers in options.workers:
                benchmark.measure(workers, options)
    results = {
        "machine": described,
        "options": {name: str(value) for name, value in vars(options).items()},
        "rows": ROWS,
        "workloads": WORKLOADS,
        "bursts": [asdict(burst) for burst in benchmark.bursts],
        "runs": [asdict(run) for run in benchmark.runs],
    }
    write_results(
        options.output, "run", results, report.markdown(results, benchmark.runs, benchmark.bursts)
    )
    report.plot(options.output / "run.svg", benchmark.runs)
    if failures := report.failures(benchmark.runs, benchmark.bursts):
        sys.exit(f"Not a result, requests failed: {'; '.join(failures)}")


if __name__ == "__main__":
    main()
