"""Measure what a growing table and a user's growing list cost, and what one more index changes.

`uv run --group bench -m benchmarks.growth --index "user_id, created_at DESC, id DESC"` takes about
20 minutes; with `--smoke` half a minute. The tables take 6 GB of disk meanwhile.
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import (
    App,
    Driver,
    connected,
    in_turn,
    migrate,
    new_database,
    postgres,
    postmaster,
    prepare,
    running,
)
from benchmarks.plans import Plan, explain, logged
from benchmarks.results import (
    described,
    machine,
    numbers,
    options_parser,
    spread,
    table,
    write_results,
)
from benchmarks.tasks import DeletePool, Owner, fill, large_owners, readers
from dev_postgres import EmbeddedPostgres

BYTES_PER_ROW = 500
"""Of the table, its indexes and the log of their making, amply."""
REQUESTS = {
    "get": ("W1", ""),
    "create": ("W3", ""),
    "update": ("PUT", ""),
    "toggle": ("W4", ""),
    "delete": ("DELETE", ""),
} | {
    f"list {status} by {sort}": ("W2", f"?status={status}&sort={sort}")
    for sort in ("created", "title")
    for status in ("all", "pending", "completed")
}
EXPLANATION = """Median milliseconds of one request after the other, all tables in turn; medians \
of the rounds ({rounds} of {seconds} s each); in brackets the ratios' smallest and largest.
"""


@dataclass(frozen=True)
class Table:
    """A database with a filled table, and groups of users who ask for their tasks."""

    server: EmbeddedPostgres
    name: str
    url: str
    groups: dict[str, list[Owner]]


@dataclass(frozen=True)
class Subject:
    """The service on a table, asked by one group."""

    group: str
    app: App
    driver: Driver


@dataclass(frozen=True)
class Sample:
    """The median time of one request after the other, in one round."""

    round: int
    group: str
    request: str
    milliseconds: float
    database_cpu_ms: float


def fill_table(
    server: EmbeddedPostgres, name: str, rows: int, groups: dict[str, list[Owner]]
) -> Table:
    """Make a table of so many rows in a new database."""
    needed = rows * BYTES_PER_ROW
    free = shutil.disk_usage(server.folder).free
    if free < needed:
        sys.exit(f"{rows:,} rows need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")
    url = new_database(server, name)
    migrate(url)
    with connected(url) as cursor:
        fill(cursor, rows, [owner for owners in groups.values() for owner in owners if owner.apart])
    return Table(server, name, url, groups)


def copy_with_index(original: Table, columns: str) -> Table:
    """Copy the table and add an index."""
    name = f"{original.name}_indexed"
    url = new_database(original.server, name, original.name)
    with connected(url) as cursor:
        cursor.execute(f"CREATE INDEX candidate ON tasks ({columns})")
        cursor.execute("VACUUM (ANALYZE) tasks")
        cursor.execute("CHECKPOINT")
    groups = {f"{group}, index": owners for group, owners in original.groups.items()}
    return Table(original.server, name, url, groups)


def measure(tables: list[Table], folder: Path, options: argparse.Namespace) -> list[Sample]:
    """Send each request to all tables and groups in turn, so that noise meets all of them."""
    samples = []
    with contextlib.ExitStack() as stack:
        subjects = [subject for each in tables for subject in _subjects(each, stack, folder)]
        for number in range(options.rounds):
            for request in options.only:
                workload, query = REQUESTS[request]
                for subject in in_turn(subjects, number):
                    subject.driver.seed = number
                    load = subject.driver.drive(
                        subject.app, workload, connections=1, seconds=options.seconds, query=query
                    )
                    if load.failed:
                        sys.exit(f"{request}, {subject.group}: {load.failed} requests failed")
                    figures = load.p50_ms, load.database_cpu_ms
                    samples.append(Sample(number, subject.group, request, *figures))
            print(f"{tables[0].name}, round {number + 1}", file=sys.stderr)
    return samples


def _subjects(each: Table, stack: contextlib.ExitStack, folder: Path) -> list[Subject]:
    app = stack.enter_context(running(App("service", each.url)))
    pool = DeletePool(stack.enter_context(connected(each.url)))
    database = postmaster(each.server)
    subjects = [
        Subject(group, app, Driver.make(folder, owners, pool, database))
        for group, owners in each.groups.items()
    ]
    for workload in ("W1", "W2", "W4"):
        subjects[0].driver.drive(app, workload, connections=1, seconds=1)
    return subjects


def sizes(each: Table) -> str:
    """Say how large the table and its indexes are."""
    with connected(each.url) as cursor:
        cursor.execute(
            "SELECT relname, pg_size_pretty(pg_relation_size(oid)) FROM pg_class"
            " WHERE oid = 'tasks'::regclass OR oid IN"
            " (SELECT indexrelid FROM pg_index WHERE indrelid = 'tasks'::regclass) ORDER BY relname"
        )
        return f"{each.name}: {', '.join(' '.join(row) for row in cursor)}.\n"


def plans(each: Table, *, lists_only: bool) -> list[tuple[str, str, Plan]]:
    """Return the plans of the requests of one user of each group."""
    with connected(each.server.url) as cursor:
        explain(cursor, each.name)
    found = []
    with running(App("service", each.url)) as app:
        for group, owners in each.groups.items():
            owner = owners[len(owners) // 2]
            requests = _lists() if lists_only else (*_on_one_task(app, owner), *_lists())
            for name, *request in requests:
                offset = each.server.log.stat().st_size
                if app.ask(owner, *request) is None:
                    sys.exit(f"{name}, {group}: the request failed")
                found += [(group, name, plan) for plan in logged(each.server.log, offset)]
    return found


def _lists() -> list[tuple[str, str]]:
    return [(name, query) for name, (workload, query) in REQUESTS.items() if workload == "W2"]


def _on_one_task(app: App, owner: Owner) -> Iterator[tuple[Any, ...]]:
    task = f"/{owner.first}"
    yield "get", task
    yield "create", "", "POST", {"title": "Buy groceries"}
    yield "update", task, "PUT", {"title": "Buy groceries"}
    yield "toggle", f"{task}/complete", "PATCH"
    made = json.loads(app.ask(owner, "", "POST", {"title": "Buy groceries"}) or "{}")
    yield "delete", f"/{made.get('id')}", "DELETE"


def _requests(samples: list[Sample]) -> list[str]:
    return list(dict.fromkeys(sample.request for sample in samples))


def times(samples: list[Sample], groups: list[str], *, ratio: bool) -> str:
    """Return a table of each request's time by group, with the ratio of the last to the first."""
    rows = []
    for request in _requests(samples):
        own = {group: _by_round(samples, group, request) for group in groups}
        row: list[object] = [request, *(median(own[group].values()) for group in groups)]
        if ratio:
            row.append(_ratio(own[groups[-1]], own[groups[0]]))
        rows.append(row)
    return table(["", *groups, *(["last / first"] if ratio else [])], rows)


def _by_round(samples: list[Sample], group: str, request: str) -> dict[int, float]:
    return {
        sample.round: sample.milliseconds
        for sample in samples
        if (sample.group, sample.request) == (group, request)
    }


def _ratio(part: dict[int, float], whole: dict[int, float]) -> str | None:
    return spread(part[number] / whole[number] for number in part)


def index_table(samples: list[Sample], groups: list[str]) -> str:
    """Return a table of each request's time with the index, relative to the time without."""
    rows = []
    for request in _requests(samples):
        cpu = [
            median(
                sample.database_cpu_ms
                for sample in samples
                if sample.request == request and sample.group.endswith(", index") == indexed
            )
            for indexed in (False, True)
        ]
        ratios = [
            _ratio(
                _by_round(samples, f"{group}, index", request), _by_round(samples, group, request)
            )
            for group in groups
        ]
        rows.append([request, *ratios, *cpu])
    return table(["", *groups, "database CPU ms without", "with"], rows)


def plan_table(found: list[tuple[str, str, Plan]]) -> str:
    """Return a table of the plans; removed are rows that a filter or a recheck threw away."""
    header = ["", "", "plan", "ms", "rows", "removed", "buffers"]
    return table(
        header, [[group, request, *asdict(plan).values()] for group, request, plan in found]
    )


def _parse() -> argparse.Namespace:
    parser = options_parser(__doc__, rounds=3, seconds=2)
    parser.add_argument("--rows", type=numbers, default=[10_000, 1_000_000, 10_000_000])
    parser.add_argument("--tasks", type=numbers, default=[10, 100, 1_000, 10_000], help="of a user")
    parser.add_argument("--index", metavar="COLUMNS", help="a further index to compare with")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=list(REQUESTS), metavar="get,create"
    )
    options = parser.parse_args()
    if unknown := set(options.only) - REQUESTS.keys():
        parser.error(f"no such request: {', '.join(unknown)}")
    if options.smoke:
        options.rounds, options.seconds, options.rows, options.tasks = 1, 1, [2_000], [10]
        options.only = ["get", "delete", "list pending by title"]
    return options


def main() -> None:
    """Measure and write the results."""
    options = _parse()
    prepare()
    with postgres() as server, tempfile.TemporaryDirectory() as name:
        about = machine(server)
        by_rows = [
            fill_table(server, f"rows_{rows}", rows, {f"{rows:,} rows": readers(rows)})
            for rows in options.rows
        ]
        samples = measure(by_rows, Path(name), options)
        found = [plan for each in by_rows for plan in plans(each, lists_only=False)]
        # In the table of the middle size.
        rows = options.rows[len(options.rows) // 2]
        groups = {f"{owner.count:,} tasks": [owner] for owner in large_owners(rows, options.tasks)}
        by_tasks = [fill_table(server, "tasks_of_one", rows, groups)]
        if options.index:
            by_tasks.append(copy_with_index(by_tasks[0], options.index))
        samples += measure(by_tasks, Path(name), options)
        found += [plan for each in by_tasks for plan in plans(each, lists_only=True)]
        on_disk = [sizes(each) for each in (*by_rows, *by_tasks)]
    parts = [
        described(about),
        EXPLANATION.format(**vars(options)),
        "## By the table's rows\n",
        times(samples, [group for each in by_rows for group in each.groups], ratio=True),
        f"## By the user's tasks, in {rows:,} rows\n",
        times(samples, list(groups), ratio=False),
    ]
    if options.index:
        parts += [
            f"## Time with an index on ({options.index}), relative to the time without\n",
            index_table(samples, list(groups)),
        ]
    parts += ["## On disk\n", *on_disk, "## Plans\n", plan_table(found)]
    results = {
        "machine": about,
        "options": {option: str(value) for option, value in vars(options).items()},
        "samples": [asdict(sample) for sample in samples],
        "plans": [
            {"group": group, "request": request, **asdict(plan)} for group, request, plan in found
        ],
    }
    write_results(options.output, "growth", results, "\n".join(parts))


if __name__ == "__main__":
    main()
