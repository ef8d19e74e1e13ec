"""The sizing command of docs/scaling.md."""

import subprocess
import sys

import pytest

from support.service import PROJECT


def size(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "scaling.size", *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


def sized(*arguments: str) -> tuple[dict[str, str], list[str]]:
    """Return the figures and the steps that are due."""
    table, due = size(*arguments).stdout.split("\nDue, in this order:\n")
    rows = [line.rsplit("  ", 1) for line in table.splitlines()]
    return {name.strip(): value.strip() for name, value in rows}, due.splitlines()


def test_users_and_habits_become_needs() -> None:
    figures, _ = sized("--users=1e8", "--active=0.5", "--requests=40", "--peak=5", "--tasks=200")
    at_peak = 1e8 * 0.5 * 40 / 86_400 * 5
    assert figures["requests per second at the peak"] == f"{at_peak:,.0f}"
    assert figures["commits per second at the peak"] == f"{at_peak * 0.2:,.0f}"
    assert figures["creations per day"] == "200,000,000"
    workers = int(figures["workers, a core each"])
    assert figures["connections of the workers"] == str(workers * 11)
    assert figures["years until one database's ids end"] == "0.0"


def test_everything_grows_with_the_users_and_starts_at_one() -> None:
    one, hundred = (sized(f"--users={users}")[0] for users in ("1", "100"))
    assert one["workers, a core each"] == one["databases"] == one["cores of PostgreSQL"] == "1"
    assert hundred["creations per day"] == "100"


@pytest.mark.parametrize(
    ("users", "due"),
    [
        ("1e5", ["nothing: one worker and any PostgreSQL are enough"]),
        ("1e7", ["2 workers", "before the ids end: 18 databases"]),
        ("2e8", ["29 workers", "PgBouncer", "13 cores for PostgreSQL", "before the ids end"]),
        ("2e9", ["290 workers", "PgBouncer", "61 cores", "2 databases", "before the ids end"]),
    ],
)
def test_what_is_due_comes_in_its_order(users: str, due: list[str]) -> None:
    steps = sized(f"--users={users}")[1]
    numbered = [f"{number}. {name}" for number, name in enumerate(due, 1)]
    assert [step[: len(name)] for step, name in zip(steps, numbered, strict=True)] == numbered


@pytest.mark.parametrize(
    "argument",
    ["--users=0", "--users=many", "--active=1.1", "--peak=0.5", "--tasks=-1", "--growth=nan"],
)
def test_a_wrong_value_is_named(argument: str) -> None:
    ended = size(argument)
    name, value = argument.split("=")
    assert ended.returncode == 2
    assert f"error: argument {name}: '{value}' is not a number " in ended.stderr.splitlines()[-1]
