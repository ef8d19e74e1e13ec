"""Compare two revisions of the service in alternating runs, within two minutes.

`uv run -m benchmarks.compare --against main` compares the files as they are here with a revision;
`--this REVISION` takes another one instead. Both use this environment's packages, and a database
each on one PostgreSQL. CPU time is the figure to trust, as requests per second depend on what else
the machine does. Where the quartiles lie on both sides of 1, nothing was shown.
"""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

from benchmarks.apps import PROJECT, App, measure, migrate, prepare, running
from benchmarks.data import filled_database, postgres
from benchmarks.operations import chosen
from benchmarks.results import FIGURES, options_parser, short, table, write

ROWS = 100_000
EXPLANATION = "{rounds} rounds of {seconds} s, {connections} connections.\n"


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
    parser = options_parser(__doc__, rounds=12, seconds=1)
    parser.add_argument("--against", required=True, metavar="REVISION", help="compared with")
    parser.add_argument("--this", metavar="REVISION", help="by default the files as they are here")
    parser.add_argument("--only", type=chosen, default="get,list,create,toggle")
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    options.rounds = 2 if options.smoke else options.rounds
    prepare()
    with ExitStack() as stack:
        server = stack.enter_context(postgres())
        apps = []
        for name, revision in (("against", options.against), ("this", options.this)):
            folder = stack.enter_context(checked_out(revision))
            make = partial(migrate, folder=folder)
            database = stack.enter_context(filled_database(server, name, ROWS, make))
            apps.append(stack.enter_context(running(App(name, database, folder=folder))))
        loads = measure(apps, options.only, options.connections, options)
    rows = []
    for operation, (figure, label) in product(options.only, FIGURES.items()):
        old, new = (
            [getattr(load, figure) for load in loads[operation.name, app.name]] for app in apps
        )
        ratios = [b / a for a, b in zip(old, new, strict=True) if a]
        low, middle, high = map(short, quantiles(ratios))
        rows.append([operation.name, label, median(old), median(new), middle, f"{low} to {high}"])
    title = f"`{options.this or 'here'}` against `{options.against}`: medians, {EXPLANATION}"
    header = ["", "", "against", "this", "this / against", "quartiles"]
    parts = [title.format(**vars(options)), table(header, rows)]
    write(options.output, "compare", parts)


if __name__ == "__main__":
    main()
