"""Compare two revisions of the service in alternating runs, within two minutes.

`uv run -m benchmarks.compare --against main` compares the files as they are here with a revision;
`--this REVISION` takes another one instead. Both use this environment's packages, and a database
each on one PostgreSQL. CPU time is the figure to trust, as requests per second depend on what else
the machine does. Where the quartiles lie on both sides of 1, nothing was shown.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

from benchmarks.apps import PROJECT, App, Load, in_turn, migrate, prepare, running
from benchmarks.data import filled_database, postgres
from benchmarks.operations import Operation, chosen
from benchmarks.results import short, table

ROWS = 100_000
FIGURES = {
    "app_cpu_us": "CPU µs",
    "database_cpu_us": "database CPU µs",
    "requests_per_second": "requests/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
}


@contextmanager
def checked_out(revision: str | None) -> Iterator[Path]:
    """Yield a folder with the revision's files, or this one."""
    if revision is None:
        yield PROJECT
        return
    with TemporaryDirectory(prefix="todo-backend-compare-") as name:
        folder = Path(name, "tree")
        _git("worktree", "add", "--quiet", "--detach", str(folder), revision)
        try:
            yield folder
        finally:
            _git("worktree", "remove", "--force", str(folder))


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=PROJECT, check=True)


def main() -> None:
    """Measure both, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--against", required=True, metavar="REVISION", help="compared with")
    parser.add_argument("--this", metavar="REVISION", help="by default the files as they are here")
    parser.add_argument("--only", type=chosen, default="get,list,create,toggle")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=12, help="at least 2; more if noisy")
    parser.add_argument("--seconds", type=int, default=1, help="of each run")
    options = parser.parse_args()
    prepare()
    loads: dict[tuple[str, str], list[Load]] = {}
    with ExitStack() as stack:
        server = stack.enter_context(postgres())
        subjects = []
        for name, revision in (("against", options.against), ("this", options.this)):
            folder = stack.enter_context(checked_out(revision))
            make = partial(migrate, folder=folder)
            database = stack.enter_context(filled_database(server, name, ROWS, make))
            app = stack.enter_context(running(App(name, database.url, folder=folder)))
            subjects.append((app, database))
        # The first round is the warm-up.
        for number in range(-1, options.rounds):
            for operation in options.only:
                for app, database in in_turn(subjects, number):
                    app.check(operation, database)
                    load = app.drive(
                        operation,
                        database,
                        connections=options.connections,
                        seconds=options.seconds,
                        seed=number,
                    )
                    if load.failed or not load.requests:
                        sys.exit(f"{app.name}, {operation.name}: {load.failed} requests failed")
                    if number >= 0:
                        loads.setdefault((operation.name, app.name), []).append(load)
            print(f"Round {number + 1} of {options.rounds}", file=sys.stderr)
    print(f"`{options.this or 'here'}` against `{options.against}`: medians;")
    print(f"{options.rounds} rounds of {options.seconds} s, {options.connections} connections.\n")
    print(
        table(
            ["", "", "against", "this", "this / against", "quartiles"],
            list(_rows(options.only, loads)),
        )
    )


def _rows(
    operations: list[Operation], loads: dict[tuple[str, str], list[Load]]
) -> Iterator[list[object]]:
    for operation in operations:
        for figure, label in FIGURES.items():
            old, new = (
                [getattr(load, figure) for load in loads[operation.name, name]]
                for name in ("against", "this")
            )
            ratios = [b / a for a, b in zip(old, new, strict=True) if a]
            low, middle, high = map(short, quantiles(ratios))
            yield [operation.name, label, median(old), median(new), middle, f"{low} to {high}"]


if __name__ == "__main__":
    main()
