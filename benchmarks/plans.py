"""The plans of the statements that the service really sends, from PostgreSQL's auto_explain."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg2.extensions import cursor as Cursor  # noqa: N812  # a class

SETTINGS = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_format": "json",
}
LOGGED = re.compile(r"duration: ([\d.]+) ms  plan:\n((?:\t.*\n)+)")


@dataclass(frozen=True)
class Plan:
    """One statement's plan, and what it did."""

    nodes: str
    milliseconds: float
    rows: int
    removed: int
    buffers: int


def explain(cursor: Cursor, database: str) -> None:
    """Log the plans of all sessions that begin from now on in the database."""
    for name, value in SETTINGS.items():
        cursor.execute(f"ALTER DATABASE {database} SET {name} = '{value}'")


def logged(log: Path, offset: int) -> list[Plan]:
    """Return the plans on the tasks table logged since the offset."""
    with log.open() as file:
        file.seek(offset)
        found = [
            (float(time), json.loads(plan)["Plan"]) for time, plan in LOGGED.findall(file.read())
        ]
    return [
        _plan(time, top)
        for time, top in found
        if any("Relation Name" in node for node in _nodes(top))
    ]


def _plan(milliseconds: float, top: dict[str, Any]) -> Plan:
    nodes = list(_nodes(top))
    removed = sum(
        node.get(f"Rows Removed by {reason}", 0) * node["Actual Loops"]
        for node in nodes
        for reason in ("Filter", "Index Recheck")
    )
    names = [
        " ".join(
            part
            for part in (
                node.get("Operation", node["Node Type"]),
                "Backward" if node.get("Scan Direction") == "Backward" else "",
                node.get("Index Name", ""),
            )
            if part
        )
        for node in nodes
    ]
    return Plan(
        ", ".join(names),
        milliseconds,
        round(top["Actual Rows"]),
        round(removed),
        top["Shared Hit Blocks"] + top["Shared Read Blocks"],
    )


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for below in node.get("Plans", []):
        yield from _nodes(below)
