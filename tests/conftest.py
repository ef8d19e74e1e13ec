"""What all tests share: one PostgreSQL server, a running service, and users."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import make_url

from support.postgres import fragile_server, new_database, passable_folder
from support.service import PROJECT, Service, User, assert_clean_log, environment, running

ALONE = {"clients", "cluster", "faults", "fuzz", "image", "pooler"}

pytest_plugins = ["support.browsing"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="as often as docs/reliability.md says")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Run what measures or fills the machine alone. The default tests wait half of the time."""
    if config.option.markexpr in ALONE:
        return 0
    return 2 * (os.cpu_count() or 1) if config.option.markexpr.startswith("not ") else None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import what needs the packages of the group `fuzz` only when it is asked for."""
    return (collection_path.name == "test_fuzz.py" and config.option.markexpr != "fuzz") or None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests measured, as rows of a table."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            terminalreporter.line(f"| {name} | {value} |")


def pytest_configure(config: pytest.Config) -> None:
    """Start one server for the whole run, unless the developer names one."""
    if hasattr(config, "workerinput") or os.environ.get("TEST_DATABASE_URL"):
        return
    stack = ExitStack()
    config.add_cleanup(stack.close)
    os.environ["TEST_DATABASE_URL"] = stack.enter_context(fragile_server(fsync="off")).url


@pytest.fixture(scope="session")
def database_url() -> Iterator[str]:
    with new_database() as url:
        yield url


@pytest.fixture(scope="session")
def service(database_url: str) -> Iterator[Service]:
    """The service on a working database; its log is checked when all tests are done."""
    with running(environment(database_url)) as service:
        yield service
        output = service.output()
    assert_clean_log(output, database_url, str(make_url(database_url).password))


@pytest.fixture(scope="session")
def served(database_url: str) -> Iterator[Service]:
    """The service as `python main.py` serves it: with its own protocol."""
    with running(environment(database_url), program=("main.py",)) as service:
        yield service
        output = service.output()
    assert_clean_log(output, database_url, str(make_url(database_url).password))


@pytest.fixture(scope="session")
def down() -> Iterator[Service]:
    """The service on a database that cannot be reached."""
    url = "postgresql://someone:database-canary@127.0.0.1:1/nowhere"
    with running(environment(url)) as service:
        yield service
        output = service.output()
    assert_clean_log(output, url, "database-canary")


@pytest.fixture
def user(service: Service) -> User:
    return service.user()


@pytest.fixture
def stranger(service: Service) -> User:
    return service.user()


@pytest.fixture
def sized(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Choose between CI's number and the full one."""
    full = request.config.getoption("--full")
    return lambda ci, whole: whole if full else ci


@pytest.fixture
def clone() -> Iterator[Path]:
    """The project as a fresh clone has it: without .env, database and environment."""
    ignored = shutil.ignore_patterns(".*", "__pycache__", "tests", "benchmarks", "node_modules")
    with passable_folder() as folder:
        shutil.copytree(PROJECT, folder / "clone", ignore=ignored)
        shutil.copy(PROJECT / ".env.example", folder / "clone")
        yield folder / "clone"
