"""What the measurements have in common: options, tables, and files for the results."""

import argparse
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

import psutil

from benchmarks.apps import PROJECT
from benchmarks.data import Postgres, connected

FOLDER = Path(__file__).parent / "results"
SETTINGS = ["server_version", "max_connections", "fsync", "synchronous_commit", "shared_buffers"]
PACKAGES = ["fastapi", "uvicorn", "pydantic", "sqlalchemy", "sqlmodel", "psycopg2-binary"]
FIGURES = {
    "requests_per_second": "requests/s",
    "app_cpu_us": "app CPU µs",
    "database_cpu_us": "database CPU µs",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
}
"""Of a load, and their headings; CPU is for each request."""


def options_parser(doc: str | None, *, rounds: int, seconds: int) -> argparse.ArgumentParser:
    """Return a parser of the options that all measurements have."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=int, default=seconds, help="of each run; there are many")
    parser.add_argument("--smoke", action="store_true", help="whether everything still works")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder for the results")
    return parser


def numbers(text: str) -> list[int]:
    """Parse an option."""
    return [int(part) for part in text.split(",")]


def machine(server: Postgres) -> str:
    """Describe what the figures are measured on."""
    with connected(server.url) as cursor:
        cursor.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", [SETTINGS])
        settings = ", ".join(" ".join(row) for row in cursor)
    cpu = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=PROJECT, check=False, capture_output=True
    ).stdout.decode()
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit.strip()}. {os.cpu_count()} x "
        f"{cpu}, {psutil.virtual_memory().total / 1e9:.0f} GB, {platform.platform()}, load average "
        f"{os.getloadavg()[0]:.2f}. Python {platform.python_version()}, "
        f"{', '.join(f'{name} {version(name)}' for name in PACKAGES)}. PostgreSQL: {settings}.\n"
    )


def write(folder: Path, name: str, parts: Sequence[str]) -> None:
    """Write the tables to NAME.md, and print them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text("\n".join(parts))
    print("\n".join(parts), f"Written to {folder}/{name}.md", sep="\n")


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *([short(value) for value in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def short(value: object) -> str:
    """Return what a table shows: three significant digits of a float."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if value > 99 else f"{value:.3g}"  # noqa: PLR2004  # two digits
    return str(value)


def spread(values: Iterable[float]) -> str:
    """Return the median, and in brackets the smallest and the largest."""
    known = sorted(values)
    if not known:
        return "-"
    return f"{short(median(known))} ({short(known[0])} to {short(known[-1])})"
