"""Measure how long the apps take to their first answer, what memory they hold, and what for.

`uv run --group bench -m benchmarks.start` takes two minutes; with `--smoke` half a minute.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import psutil

from benchmarks.harness import (
    PROGRAMS,
    PROJECT,
    App,
    Driver,
    connected,
    environment,
    migrate,
    new_database,
    postgres,
    postmaster,
    prepare,
    running,
)
from benchmarks.results import (
    described,
    machine,
    options_parser,
    spread,
    table,
    write_results,
)
from benchmarks.tasks import DeletePool, Owner, fill, readers

ROWS = 10_000
IMPORTED = re.compile(r"import time: +(\d+) \| +\d+ \| +(\S+)")
LARGEST = 15
CONNECTIONS = 32
KINDS = ["worker's RSS", "PSS", "USS", "PSS of all processes"]


def first_answer(app: App, owner: Owner) -> float:
    """Return the seconds from the start of the process to the answer of its first request."""
    started = time.perf_counter()
    with running(app):
        if app.ask(owner, f"/{owner.first}") is None:
            sys.exit(f"{app.name}: the first request failed")
        return time.perf_counter() - started


def workers_of(app: App) -> list[psutil.Process]:
    """Return the processes that serve; with several, their supervisor does not."""
    below = [process for process in app.tree()[1:] if "spawn_main" in " ".join(process.cmdline())]
    return below or [app.process]


def memory(app: App) -> list[float]:
    """Return the megabytes of the largest worker, and of all the app's processes together."""
    workers = [process.memory_full_info() for process in workers_of(app)]
    total = sum(process.memory_full_info().pss for process in app.tree())
    largest = [max(getattr(info, kind) for info in workers) for kind in ("rss", "pss", "uss")]
    return [size / 1e6 for size in (*largest, total)]


def memories(url: str, driver: Driver, owner: Owner, seconds: int) -> list[list[object]]:
    """Return rows of what the apps hold at their start and after a load."""
    rows: list[list[object]] = []
    for name in PROGRAMS:
        for workers in (1, 2):
            with running(App(name, url, workers)) as app:
                app.ask(owner, f"/{owner.first}")
                rows.append([name, workers, "at the start", *memory(app)])
                driver.drive(app, "W2", connections=CONNECTIONS, seconds=seconds)
                rows.append([name, workers, "after lists", *memory(app)])
    return rows


def import_times(url: str) -> list[tuple[str, float]]:
    """Return each module of the service, and the milliseconds that it takes without those below."""
    with tempfile.TemporaryFile("w+") as errors:
        with running(App("service", url, interpreter=["-X", "importtime"], errors=errors)):
            pass
        errors.seek(0)
        found = IMPORTED.findall(errors.read())
    return [(name, int(microseconds) / 1000) for microseconds, name in found]


def import_memory(url: str, modules: list[str]) -> list[tuple[str, float]]:
    """Return each module, and the megabytes that it adds without those below."""
    output = subprocess.run(
        [sys.executable, Path(__file__).parent / "weigh.py"],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # First the app, as it imports the rest; then what else the server's start imports.
        input="\n".join(["main", *modules]),
        text=True,
        cwd=PROJECT,
        env=environment(url) | {"PYTHONPATH": str(PROJECT)},
    ).stdout
    return [(name, size / 1e6) for name, size in json.loads(output).items()]


def by_package(modules: list[tuple[str, float]]) -> dict[str, float]:
    """Add up the modules of each package."""
    total: dict[str, float] = defaultdict(float)
    for module, value in modules:
        total[package(module)] += value
    return total


def package(module: str) -> str:
    """Return whose module it is."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        return "Python's own library"
    ours = (PROJECT / f"{top}.py").exists() or (PROJECT / top).is_dir()
    return "the service" if ours else top


def starts(url: str, owner: Owner, rounds: int) -> list[list[object]]:
    """Return a row for each app: the seconds to its first answer, apps in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    python = []
    for _ in range(rounds):
        for name, found in seconds.items():
            found.append(first_answer(App(name, url), owner))
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", ""], check=True)
        python.append(time.perf_counter() - began)
    rows = {"Python alone": python} | seconds
    return [[name, spread(found)] for name, found in rows.items()]


def main() -> None:
    """Measure and write the results."""
    options = options_parser(__doc__, rounds=7, seconds=3).parse_args()
    if options.smoke:
        options.rounds, options.seconds = 1, 1
    prepare()
    with postgres() as server, tempfile.TemporaryDirectory() as folder:
        about = machine(server)
        url = new_database(server, "start")
        migrate(url)
        with connected(url) as cursor:
            fill(cursor, ROWS)
            owners = readers(ROWS)
            driver = Driver.make(Path(folder), owners, DeletePool(cursor), postmaster(server))
            started = starts(url, owners[0], options.rounds)
            held = memories(url, driver, owners[0], options.seconds)
        times = import_times(url)
        sizes = import_memory(url, [name for name, _ in times])
    milliseconds, megabytes = by_package(times), by_package(sizes)
    packages = sorted(milliseconds, key=lambda name: -milliseconds[name] - 10 * megabytes[name])
    imports = [[name, milliseconds[name], megabytes[name]] for name in packages[:LARGEST]]
    others = packages[LARGEST:]
    imports += [
        [label, sum(milliseconds[name] for name in names), sum(megabytes[name] for name in names)]
        for label, names in ((f"{len(others)} others", others), ("together", packages))
    ]
    parts = [
        described(about),
        "## Seconds from the start of the process to its first answer\n",
        table(["", f"{options.rounds} times"], started),
        "## Memory, MB\n",
        table(["", "workers", "", *KINDS], held),
        "## What the service imports\n",
        table(["", "ms, profiled", "MB resident"], imports),
    ]
    results = {"machine": about, "starts": started, "memory": held, "imports": imports}
    write_results(options.output, "start", results, "\n".join(parts))


if __name__ == "__main__":
    main()
