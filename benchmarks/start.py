"""Measure how long the apps take to their first response, and what memory they hold.

`uv run -m benchmarks.start` takes a minute; with `--smoke` a few seconds.
"""

import time

from benchmarks.apps import PROGRAMS, App, migrate, prepare, running, tree
from benchmarks.data import filled_database, postgres
from benchmarks.operations import OPERATIONS
from benchmarks.results import machine, options_parser, spread, table, write

ROWS = 10_000
# Without the peer, whose packages `benchmarks.run` installs.
APPS = [name for name in PROGRAMS if name != "fastify"]


def first_response(app: App) -> float:
    """Return the seconds from the start of the process to its first response."""
    started = time.perf_counter()
    with running(app):
        app.check(OPERATIONS["get"])
        return time.perf_counter() - started


def memory(app: App) -> list[float]:
    """Return the megabytes of the largest process, and of all together."""
    processes = [process.memory_full_info() for process in tree(app.process)]
    largest = [max(getattr(info, kind) for info in processes) for kind in ("rss", "uss")]
    return [size / 1e6 for size in (*largest, sum(info.pss for info in processes))]


def main() -> None:
    """Measure and write the results."""
    options = options_parser(__doc__, rounds=7, seconds=3).parse_args()
    if options.smoke:
        options.rounds, options.seconds = 1, 1
    prepare()
    seconds: dict[str, list[float]] = {name: [] for name in APPS}
    held: list[list[object]] = []
    with postgres() as server, filled_database(server, "start", ROWS, migrate) as database:
        about = machine(server)
        for _ in range(options.rounds):
            for name, found in seconds.items():
                found.append(first_response(App(name, database, name)))
        for name in APPS:
            for workers in (1, 2):
                with running(App(name, database, name, workers)) as app:
                    app.check(OPERATIONS["get"])
                    held.append([name, workers, "at the start", *memory(app)])
                    app.drive(OPERATIONS["list"], connections=32, seconds=options.seconds)
                    held.append([name, workers, "after lists", *memory(app)])
    starts = [[name, spread(found)] for name, found in seconds.items()]
    parts = [
        about,
        "## Seconds from the start of the process to its first response\n",
        table(["", f"{options.rounds} times"], starts),
        "## Memory, MB\n",
        table(["", "workers", "", "largest process's RSS", "USS", "PSS of all"], held),
    ]
    write(options.output, "start", parts)


if __name__ == "__main__":
    main()
