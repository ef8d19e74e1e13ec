"""Tables and a plot of what `benchmarks.run` measured."""

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results import described, spread, table

WORKLOADS = {
    "W1": "get one",
    "W2": "list 100",
    "W3": "create",
    "W4": "toggle",
    "PUT": "update",
    "DELETE": "delete",
    "MIX": "60 % get, 20 % list, 10 % create, 10 % toggle",
}
CANDIDATES = {"service": "#1b7837", "baseline": "#999999", "ceiling": "#a6dba0", "pgbench": ""}
"""And their colours in the plot, which would be all pgbench."""
FIGURES = {
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "app_cpu_ms": "app CPU ms",
    "database_cpu_ms": "database CPU ms",
    "memory_mb": "memory MB",
}
BASELINE_THREADS = 40
"""Threads of one worker, which are more than its 30 connections."""
EXPLANATION = """{:,} tasks; rounds: {rounds}, each of {seconds} s. Medians; in brackets the \
smallest and the largest. Ratios are of requests per second, taken within each round. CPU is per \
request; memory is that of all the app's processes together, resident. `MIX` is {}. What hung \
did not answer in the five seconds after the run either.

A cold burst of 200 clients, as the first requests of an app just started:
"""


@dataclass(frozen=True)
class Cell:
    """A round of one workload at one load, in which all candidates take their turn."""

    round: int
    workers: int
    connections: int
    workload: str


@dataclass(frozen=True, kw_only=True)
class Run(Cell):
    """One candidate's turn. It hung if it did not answer five seconds later either."""

    candidate: str
    requests: int
    requests_per_second: float
    failed: int = 0
    hung: bool = False
    p50_ms: float | None = None
    p99_ms: float | None = None
    app_cpu_ms: float | None = None
    database_cpu_ms: float | None = None
    memory_mb: float | None = None


@dataclass(frozen=True)
class Burst:
    """A cold burst of 200 clients."""

    round: int
    candidate: str
    failed: int
    seconds: float


def failures(runs: list[Run], bursts: list[Burst]) -> list[str]:
    """Say which runs are no results; the baseline may hang when clients outnumber its threads."""
    found = [
        f"{run.candidate}, {run.workload} at {run.connections}: {run.failed}"
        for run in runs
        if (run.failed or run.hung)
        and (run.candidate != "baseline" or run.connections <= BASELINE_THREADS)
    ]
    return found + [
        f"{burst.candidate}, cold burst: {burst.failed}"
        for burst in bursts
        if burst.failed and burst.candidate != "baseline"
    ]


def markdown(results: dict[str, Any], runs: list[Run], bursts: list[Burst]) -> str:
    """Return all tables."""
    explanation = EXPLANATION.format(results["rows"], WORKLOADS["MIX"], **results["options"])
    parts = [described(results["machine"]), explanation, _bursts(bursts)]
    for workers, connections in sorted({(run.workers, run.connections) for run in runs}):
        load = [run for run in runs if (run.workers, run.connections) == (workers, connections)]
        parts += [f"## Connections: {connections}, workers: {workers}\n", _load(load)]
    return "\n".join(parts)


def _bursts(bursts: list[Burst]) -> str:
    rows = []
    for name in CANDIDATES:
        own = [burst for burst in bursts if burst.candidate == name]
        if own:
            failed = sum(burst.failed for burst in own)
            rows.append([name, len(own), failed, median(burst.seconds for burst in own)])
    return table(["", "times", "failed requests", "seconds to the last answer"], rows)


def _load(runs: list[Run]) -> str:
    rows = []
    for workload in WORKLOADS:
        service = _of(runs, workload, "service")
        for name in CANDIDATES:
            if own := _of(runs, workload, name):
                failed = _failed(own)
                counted = {} if failed == "hung" else own
                rate = spread(run.requests_per_second for run in counted.values())
                ratio = None if name == "service" else _ratio(service, own)
                figures = [_median(counted, figure) for figure in FIGURES]
                rows.append([workload, name, rate, ratio, *figures, failed])
    header = ["", "", "requests/s", "service / this", *FIGURES.values(), "failed"]
    return table(header, rows)


def _of(runs: list[Run], workload: str, candidate: str) -> dict[int, Run]:
    return {
        run.round: run for run in runs if (run.workload, run.candidate) == (workload, candidate)
    }


def _ratio(service: dict[int, Run], other: dict[int, Run]) -> str | None:
    if _failed(service) or _failed(other):
        return None
    return spread(
        run.requests_per_second / other[number].requests_per_second
        for number, run in service.items()
    )


def _failed(runs: dict[int, Run]) -> int | str:
    hung = any(run.hung for run in runs.values())
    return "hung" if hung else sum(run.failed for run in runs.values())


def _median(runs: dict[int, Run], figure: str) -> float | None:
    known = [value for run in runs.values() if (value := getattr(run, figure)) is not None]
    return median(known) if known else None


def plot(path: Path, runs: list[Run]) -> None:
    """Draw the requests per second, a panel for each load."""
    # Here, so that the checks need no matplotlib.
    import matplotlib.pyplot as plt  # noqa: PLC0415  # as it says
    from matplotlib.patches import Patch  # noqa: PLC0415  # likewise

    loads = sorted({(run.workers, run.connections) for run in runs})
    size = (9, 2.6 * len(loads))
    figure, panels = plt.subplots(len(loads), figsize=size, squeeze=False, layout="constrained")
    for panel, (workers, connections) in zip(panels[:, 0], loads, strict=True):
        here = [run for run in runs if (run.workers, run.connections) == (workers, connections)]
        for number, (name, colour) in enumerate(CANDIDATES.items()):
            for position, workload in enumerate(WORKLOADS):
                own = _of(here, workload, name)
                if colour and own and not _failed(own):
                    rates = sorted(run.requests_per_second for run in own.values())
                    middle = median(rates)
                    error = [[middle - rates[0]], [rates[-1] - middle]]
                    panel.bar(position + 0.27 * number, middle, 0.25, yerr=error, color=colour)
        panel.set_title(f"workers: {workers}, connections: {connections}")
        panel.set_xticks([position + 0.27 for position in range(len(WORKLOADS))], WORKLOADS)
        panel.set_ylabel("requests/s")
    # From the table of the colours, as a candidate may have no bar in the first panel.
    bars = {name: Patch(color=colour) for name, colour in CANDIDATES.items() if colour}
    panels[0, 0].legend(bars.values(), bars.keys())
    figure.savefig(path)
