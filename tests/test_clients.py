"""Generated clients make every call; other tools find no fault: pytest -m clients."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from support.service import PATIENCE, PROJECT, Service, User
from support.tokens import signed

pytestmark = pytest.mark.clients

Call = Callable[..., Any]

SOURCES = PROJECT / "tests" / "clients"
TOOLS = SOURCES / "node_modules" / ".bin"
PYTHON_CLIENT = "generated_client"
GENERATORS: dict[str, list[str]] = {
    "openapi-typescript": [
        str(TOOLS / "openapi-typescript"),
        *("openapi.json", "--output", "generated/openapi-typescript.d.ts"),
    ],
    "hey-api": [str(TOOLS / "openapi-ts"), "--file", "hey-api.config.cjs"],
    "orval": [str(TOOLS / "orval"), "--config", "orval.config.cjs"],
    PYTHON_CLIENT: [
        str(Path(sys.executable).with_name("openapi-python-client")),
        *("generate", "--path", "openapi.json", "--meta", "none"),
        *("--output-path", PYTHON_CLIENT, "--fail-on-warning"),
    ],
}


class Workshop:
    """A folder with the document of a running service, and what was generated from it."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.folder = folder
        # Some tools would tell their makers that they run, or ask for a newer version.
        self.env = {**os.environ, "SERVICE": service.url, "DO_NOT_TRACK": "1"}
        self.env |= {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
        self.env |= {"SCARF_ANALYTICS": "false"}
        shutil.copytree(SOURCES, folder, ignore=shutil.ignore_patterns("node_modules"))
        (folder / "node_modules").symlink_to(SOURCES / "node_modules")
        document = service.client.get("/openapi.json").json()
        (folder / "openapi.json").write_text(json.dumps(document), encoding="utf-8")

    def start(self, *command: str, **variables: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self.env, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str, **variables: str) -> str:
        return finished(self.start(*command, **variables))


def finished(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def workshop(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    assert TOOLS.is_dir(), "npm ci --prefix tests/clients"
    return Workshop(tmp_path_factory.mktemp("clients") / "workshop", service)


@pytest.fixture(scope="module")
def generated(workshop: Workshop) -> Workshop:
    for process in [workshop.start(*command) for command in GENERATORS.values()]:
        finished(process)
    return workshop


@pytest.fixture(scope="module")
def compiled(generated: Workshop) -> Workshop:
    generated.run(str(TOOLS / "tsc"))
    return generated


@pytest.mark.parametrize("client", ["openapi-typescript", "hey-api", "orval"])
def test_a_typescript_client_makes_every_call(compiled: Workshop, user: User, client: str) -> None:
    token = signed(sub=user.id)
    output = compiled.run("node", f"compiled/{client}.js", USER_ID=user.id, TOKEN=token)
    assert output == "every call works\n"


@pytest.fixture
def python_client(generated: Workshop) -> Iterator[Any]:
    # What follows from the document; client.py is the same in every client, and not quite typed.
    packages = [f"{PYTHON_CLIENT}/api", f"{PYTHON_CLIENT}/models"]
    generated.run(sys.executable, "-m", "mypy", "--follow-imports=silent", *packages)
    sys.path.insert(0, str(generated.folder))
    names = ("client", "models")
    modules: dict[str, Any] = {
        name: importlib.import_module(f"{PYTHON_CLIENT}.{name}") for name in names
    }
    for name in ("api.health", "api.tasks"):
        package = importlib.import_module(f"{PYTHON_CLIENT}.{name}")
        for file in Path(package.__path__[0]).glob("[a-z]*.py"):
            module = importlib.import_module(f"{package.__name__}.{file.stem}")
            modules[file.stem] = module.sync_detailed
    yield SimpleNamespace(**modules)
    sys.path.remove(str(generated.folder))


@pytest.fixture
def call(python_client: Any, service: Service, user: User) -> Iterator[Call]:  # noqa: ANN401
    timeout = httpx.Timeout(PATIENCE)
    token = signed(sub=user.id)
    with python_client.client.AuthenticatedClient(service.url, token, timeout=timeout) as client:

        def call(name: str, expected: int, *ids: int, **parameters: Any) -> Any:  # noqa: ANN401
            response = getattr(python_client, name)(user.id, *ids, client=client, **parameters)
            assert response.status_code == expected, response.content
            return response

        yield call


def test_the_python_client_needs_a_token_for_tasks_alone(
    python_client: Any,  # noqa: ANN401
    service: Service,
) -> None:
    with python_client.client.Client(service.url, timeout=httpx.Timeout(PATIENCE)) as client:
        assert python_client.check_liveness(client=client).parsed.status == "alive"
        assert python_client.check_health(client=client).parsed.database.value == "connected"
        refusal = python_client.list_tasks("user", client=client)
    assert (refusal.status_code, refusal.parsed.code.value) == (401, "UNAUTHORIZED")


def test_the_python_client_makes_every_call(
    python_client: Any,  # noqa: ANN401
    call: Call,
) -> None:
    models = python_client.models
    new = models.TaskCreate(title="Écrire", description=None)
    task = call("create_task", 201, body=new).parsed
    key = {"idempotency_key": "once"}
    keyed = call("create_task", 201, body=models.TaskCreate(title="Once"), **key)
    again = call("create_task", 201, body=models.TaskCreate(title="Once"), **key)
    assert again.parsed == keyed.parsed
    assert again.headers["Idempotency-Replayed"] == "true"
    call("create_task", 422, body=models.TaskCreate(title="Another"), **key)

    whole = call("list_tasks", 200)
    assert isinstance(whole.parsed, models.TaskListResponse)
    assert whole.parsed.tasks == [keyed.parsed, task]
    call("list_tasks", 304, if_none_match=whole.headers["ETag"])
    page = call("list_tasks", 200, limit=1, sort=models.TaskSort.TITLE).parsed
    assert isinstance(page, models.TaskPageResponse)
    assert (page.tasks, page.total) == ([task], 2)
    last = call(
        "list_tasks", 200, limit=1, sort=models.TaskSort.TITLE, cursor=page.next_cursor
    ).parsed
    assert (last.tasks, last.next_cursor) == ([keyed.parsed], None)
    assert call("list_tasks", 200, q="éCRI").parsed.tasks == [task]

    got = call("get_task", 200, task.id)
    assert got.parsed == task
    call("get_task", 304, task.id, if_none_match=got.headers["ETag"])
    match = {"if_match": got.headers["ETag"]}
    changes = models.TaskUpdate(description="au stylo")
    changed = call("update_task", 200, task.id, body=changes, **match).parsed
    assert (changed.title, changed.description) == ("Écrire", "au stylo")
    conflict = call("update_task", 412, task.id, body=changes, **match)
    assert conflict.parsed.code.value == "PRECONDITION_FAILED"
    assert call("toggle_task", 200, task.id).parsed.completed

    pending = {"status": models.TaskStatus.PENDING}
    done = models.TasksUpdate(completed=True)
    assert call("update_tasks", 200, body=done, **pending).parsed.updated == 1
    call("delete_task", 204, task.id)
    call("get_task", 404, task.id)
    assert call("delete_tasks", 200, status=models.TaskStatus.ALL).parsed.deleted == 1


def test_patterns_are_ecmascripts_with_and_without_flags(workshop: Workshop) -> None:
    workshop.run("node", "patterns.cjs")


def test_redocly_finds_nothing(workshop: Workshop) -> None:
    output = workshop.run(str(TOOLS / "redocly"), "lint", "--max-problems=100", "openapi.json")
    assert "Your API description is valid" in output
    assert "warning" not in output.partition("validating")[2]


def test_spectral_finds_nothing(workshop: Workshop) -> None:
    workshop.run(str(TOOLS / "spectral"), "lint", "--fail-severity=hint", "openapi.json")
