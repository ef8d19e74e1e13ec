"""What the measurements write: JSON and Markdown, and what they were measured on."""

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.harness import CONFIGURATION, PROJECT, connected
from dev_postgres import EmbeddedPostgres

FOLDER = Path(__file__).parent / "results"
STATED = [*CONFIGURATION, "fsync", "synchronous_commit", "full_page_writes", "shared_buffers"]
PACKAGES = [
    "fastapi",
    "starlette",
    "uvicorn",
    "pydantic",
    "sqlalchemy",
    "sqlmodel",
    "psycopg2-binary",
]


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


def machine(server: EmbeddedPostgres) -> dict[str, Any]:
    """Describe what the figures were measured on."""
    with connected(server.url) as cursor:
        settings = {}
        for name in ("server_version", *STATED):
            cursor.execute(f"SHOW {name}")
            settings[name] = (cursor.fetchone() or [None])[0]
    mounts = (
        part
        for part in psutil.disk_partitions(all=True)
        if server.data.is_relative_to(part.mountpoint)
    )
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": _output("git", "describe", "--always", "--dirty"),
        "cpu": _cpu_model(),
        "cpus": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": platform.platform(),
        "file_system": max(mounts, key=lambda part: len(part.mountpoint)).fstype,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "postgresql": settings,
        "load_before": os.getloadavg()[0],
    }


def described(machine: dict[str, Any]) -> str:
    """Say in Markdown what `machine` found."""
    postgresql = ", ".join(f"{name} {value}" for name, value in machine["postgresql"].items())
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    return (
        f"{machine['date']}, commit {machine['commit']}. {machine['cpus']} x {machine['cpu']}, "
        f"{machine['memory_gb']} GB, {machine['file_system']}, {machine['system']}. "
        f"Python {machine['python']}; {packages}. PostgreSQL: {postgresql}. "
        f"Load average before: {machine['load_before']:.2f}.\n"
    )


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "?")


def _output(*command: str) -> str:
    return subprocess.run(
        command, cwd=PROJECT, check=False, capture_output=True, text=True
    ).stdout.strip()


def write_results(folder: Path, name: str, results: dict[str, Any], markdown: str) -> None:
    """Write NAME.json and NAME.md, and print the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / f"{name}.md").write_text(markdown)
    print(markdown)
    print(f"Written to {folder}/{name}.*")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
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


def spread(values: Iterable[float]) -> str | None:
    """Return the median, and in brackets the smallest and the largest."""
    known = sorted(values)
    return f"{short(median(known))} ({short(known[0])} to {short(known[-1])})" if known else None
