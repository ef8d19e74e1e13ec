"""Measure what a growing table and a user's growing list cost, and what one more index changes.

`uv run -m benchmarks.growth` takes 20 minutes; with `--smoke` half a minute. The tables take 6 GB
of disk meanwhile.
"""

from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from statistics import median

from benchmarks.apps import App, Loads, measure, migrate, prepare, running
from benchmarks.data import Owner, filled_database, large_owners, postgres
from benchmarks.operations import OPERATIONS
from benchmarks.results import machine, numbers, options_parser, short, spread, table, write

# Completing all of a user's tasks would change the lists that are measured after it.
SINGLE = [each for each in OPERATIONS.values() if each.name != "complete_all"]
LISTS = [
    replace(
        OPERATIONS["list"], name=f"list {status} by {sort}", path=f"?status={status}&sort={sort}"
    )
    for sort in ("created", "title")
    for status in ("all", "pending", "completed")
]
LISTS += [
    replace(OPERATIONS["list"], name=query, path=f"?{query}")
    for query in ("limit=50", "limit=50&sort=updated", "limit=50&sort=title", "limit=50&q=coffee")
]
EXPLANATION = """Median milliseconds of one request after the other, all tables in turn; medians
of {rounds} rounds of {seconds} s, with the database's CPU time in µs.
"""


def times(loads: Loads) -> str:
    """Return a table of each request's time by group, with the ratio of the last to the first."""
    groups = list(dict.fromkeys(group for _, group in loads))
    rows = []
    for name in dict.fromkeys(name for name, _ in loads):
        own = [loads[name, group] for group in groups]
        figures = [[(load.p50_ms, load.database_cpu_us) for load in each] for each in own]
        cells = [
            ", ".join(short(median(two)) for two in zip(*each, strict=True)) for each in figures
        ]
        ratio = spread(b.p50_ms / a.p50_ms for a, b in zip(own[0], own[-1], strict=True))
        rows.append([name, *cells, ratio])
    return table(["ms, µs", *groups, "last / first"], rows)


def main() -> None:
    """Measure and write the results."""
    parser = options_parser(__doc__, rounds=3, seconds=2)
    parser.add_argument("--rows", type=numbers, default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--tasks", type=numbers, default=[10, 100, 1_000, 10_000], help="of a user")
    parser.add_argument("--index", metavar="COLUMNS", help="compare with a further index")
    options = parser.parse_args()
    if options.smoke:
        options.rounds, options.seconds, options.rows, options.tasks = 1, 1, [2_000], [10]
    prepare()
    middle = options.rows[len(options.rows) // 2]
    with postgres() as server, ExitStack() as stack:
        parts = [machine(server), EXPLANATION.format(**vars(options))]
        by_rows, by_tasks = [], []
        tables: list[tuple[int, list[Owner]]] = [*((rows, []) for rows in options.rows)]
        tables.append((middle, large_owners(middle, options.tasks)))
        indexes = [None, options.index] if options.index else [None]
        for index, (rows, owners) in product(indexes, tables):
            name = f"rows_{rows}{'_owners' * bool(owners)}{'_index' * bool(index)}"
            database = stack.enter_context(filled_database(server, name, rows, migrate, owners))
            if index:
                database.cursor.execute(f"CREATE INDEX candidate ON tasks ({index})")
            label = ", index" if index else ""
            by_tasks += [
                App(f"{owner.count:,} tasks{label}", database, owners=[owner]) for owner in owners
            ]
            by_rows += [] if owners else [App(f"{rows:,} rows{label}", database)]
        for title, apps, operations in (
            ("## By the table's rows\n", by_rows, [*SINGLE, *LISTS[1:]]),
            (f"## By the user's tasks, in {middle:,} rows\n", by_tasks, LISTS),
        ):
            for app in apps:
                stack.enter_context(running(app))
            parts += [title, times(measure(apps, operations, 1, options))]
    write(options.output, "growth", parts)


if __name__ == "__main__":
    main()
