"""Measure the service beside Fastify and a tutorial's FastAPI app, in alternating runs.

`uv run -m benchmarks.run` takes 20 minutes; with `--smoke` half a minute; with
`--connections 32 --only get,list,create,toggle` four minutes.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median

from benchmarks.apps import FASTIFY, PROGRAMS, App, Loads, measure, migrate, prepare, running
from benchmarks.data import filled_database, postgres
from benchmarks.operations import OPERATIONS, Operation, chosen
from benchmarks.results import FIGURES, machine, numbers, options_parser, spread, table, write

ROWS = 100_000
EXPLANATION = """{:,} tasks; {rounds} rounds of {seconds} s. Medians; in brackets the smallest and
the largest. Ratios are taken within each round; above 1 the service is better. CPU time is for each
request, and is the figure to trust where other programs run. An app that hung did not respond in
the ten seconds after the run either.
"""


def compare_responses(apps: Sequence[App], operations: Sequence[Operation]) -> None:
    """End unless the apps respond alike: else the comparison is none."""
    for operation in operations:
        if operation.method == "GET" and not operation.service_only:
            bodies = {app.name: json.loads(app.check(operation)) for app in apps}
            if others := [name for name in bodies if bodies[name] != bodies["service"]]:
                sys.exit(f"{operation.name}: {others} do not respond as the service does")


def load_table(loads: Loads) -> str:
    """Return a table of what the apps did under one load."""
    rows: list[list[object]] = []
    for (operation, name), own in loads.items():
        if own[-1].hung:
            rows.append([operation, name, "hung", *["-"] * 7])
            continue
        both = list(zip(loads[operation, "service"], own, strict=True))
        rate = spread(a.requests_per_second / b.requests_per_second for a, b in both)
        cpu = spread(b.app_cpu_us / a.app_cpu_us for a, b in both if a.app_cpu_us)
        figures = [median(getattr(load, figure) for load in own) for figure in FIGURES]
        rows.append([operation, name, rate, cpu, *figures, sum(load.failed for load in own)])
    ratios = ["requests/s: service / this", "CPU: this / service"]
    return table(["", "", *ratios, *FIGURES.values(), "failed"], rows)


def _parse() -> argparse.Namespace:
    parser = options_parser(__doc__, rounds=5, seconds=2)
    parser.add_argument("--connections", type=numbers, default=[1, 32, 128])
    parser.add_argument("--workers", type=numbers, default=[1], help="of each app")
    parser.add_argument("--only", type=chosen, default=",".join(OPERATIONS), metavar="get,list")
    peers = [name for name in PROGRAMS if name != "service"]
    parser.add_argument("--without", action="append", default=[], choices=peers)
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.seconds, options.connections = 1, 1, [8]
    if "fastify" not in options.without:
        if not shutil.which("npm"):
            sys.exit("Node.js is missing: apt-get install nodejs npm, or --without fastify")
        if not (FASTIFY / "node_modules").exists():
            subprocess.run(["npm", "ci", "--prefix", FASTIFY], check=True)
    return options


def main() -> None:
    """Measure and write the results."""
    options = _parse()
    prepare()
    names = [name for name in PROGRAMS if name not in options.without]
    with postgres() as server, filled_database(server, "benchmark", ROWS, migrate) as database:
        parts = [machine(server), EXPLANATION.format(ROWS, **vars(options))]
        for workers in options.workers:
            with ExitStack() as stack:
                made = [App(name, database, program=name, workers=workers) for name in names]
                apps = [stack.enter_context(running(app)) for app in made]
                compare_responses(apps, options.only)
                for connections in options.connections:
                    loads = measure(apps, options.only, connections, options)
                    title = f"## Connections: {connections}, workers: {workers}\n"
                    parts += [title, load_table(loads)]
    write(options.output, "run", parts)


if __name__ == "__main__":
    main()
