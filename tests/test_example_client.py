"""The typed client of the example, on a network that loses answers: pytest -m browser."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.chromium import FRONTEND, check_prerequisites
from support.pages import blocks, read, section
from support.relay import LOST, Refusal, Relay, relay_to
from support.service import Service, User

pytestmark = pytest.mark.browser

PROGRAM = """
const client = require("./tasks.js");
const { url, userId, token } = JSON.parse(process.argv[2]);
const renewals = [];
const getToken = async () => (renewals.push(0), renewals.length === 1 ? "expired" : token);
const api = client.tasksApi({ url, userId, getToken });
const failure = async (action) => {
  const error = await action.then(() => null, (error) => error);
  return error && { ...error, kind: error.constructor.name, message: error.message };
};
(async () => { %s })().then((result) => console.log(JSON.stringify(result ?? null)));
"""

Run = Callable[[str], Any]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client as JavaScript."""
    check_prerequisites()
    folder = tmp_path_factory.mktemp("client")
    options = "--strict --skipLibCheck --target es2022 --module commonjs --types node"
    compiler = ["node_modules/.bin/tsc", *options.split(), "--moduleResolution", "node10"]
    subprocess.run([*compiler, "lib/tasks.ts", "--outDir", folder], cwd=FRONTEND, check=True)
    return folder


@pytest.fixture
def relay(service: Service) -> Iterator[Relay]:
    with relay_to(service.client) as relay:
        yield relay


@pytest.fixture
def run(compiled: Path, relay: Relay, user: User) -> Run:
    """Run JavaScript that calls the API as the user, and return its result."""

    def run(script: str) -> Any:  # noqa: ANN401  # JSON
        file = compiled / "program.js"
        file.write_text(PROGRAM % script, encoding="utf-8")
        token = user.headers["Authorization"].removeprefix("Bearer ")
        argument = json.dumps({"url": relay.url, "userId": user.id, "token": token})
        program = subprocess.run(
            ["node", file, argument], check=False, capture_output=True, text=True
        )
        assert program.returncode == 0, program.stderr
        return json.loads(program.stdout)

    return run


@pytest.fixture
def faults(relay: Relay, run: Run) -> Callable[..., None]:
    """Plan what happens after the first request, whose token is renewed."""
    del run

    def plan(*faults: Refusal | str) -> None:
        relay.faults.extend([Refusal(401), *faults])

    return plan


def test_a_token_is_renewed_once(run: Run, relay: Relay) -> None:
    run("await Promise.all([api.list(), api.list(), api.list()])")
    assert relay.statuses.count(401) == 3
    assert run("await api.list(); await api.list(); return renewals.length") == 2


def test_a_creation_keeps_its_key_until_it_is_answered(
    run: Run, relay: Relay, user: User, faults: Callable[..., None]
) -> None:
    faults(LOST, Refusal(503), Refusal(429, {"Retry-After": "1"}))
    task = run("return api.create({ title: 'Buy groceries' })")
    assert user.list() == [task]
    assert len(set(relay.keys())) == 1
    assert relay.statuses == [401, 201, 503, 429, 201]
    run("await api.create({ title: 'Buy groceries' })")
    assert len(set(relay.keys())) == 2
    assert len(user.list()) == 2


def test_a_creation_is_tried_again_later_under_its_key(
    run: Run, user: User, faults: Callable[..., None]
) -> None:
    faults(LOST, LOST, LOST, LOST)
    error, first, second = run(
        """const key = client.newKey();
        const error = await failure(api.create({ title: "x" }, key));
        const again = () => api.create({ title: "x" }, key);
        return [error, await again(), await again()]"""
    )
    assert error["kind"] == "ConnectionError"
    assert first == second
    assert user.list() == [first]


def test_a_retry_waits_as_long_as_the_server_says(run: Run, faults: Callable[..., None]) -> None:
    faults(Refusal(429, {"Retry-After": "2"}))
    waited = run("const start = Date.now(); await api.list(); return Date.now() - start")
    assert waited >= 2000


def test_nobody_waits_for_minutes(run: Run, faults: Callable[..., None], relay: Relay) -> None:
    faults(Refusal(503, {"Retry-After": "600"}))
    error = run("return failure(api.list())")
    assert (error["kind"], error["status"], error["code"]) == ("ApiError", 503, "UNKNOWN")
    assert relay.statuses == [401, 503]


@pytest.mark.parametrize("call", ["toggle(id)", "update(id, { title: 'y' })", "remove(id)"])
def test_an_unconditional_change_is_not_sent_twice(
    run: Run, relay: Relay, user: User, faults: Callable[..., None], call: str
) -> None:
    task = user.create("x")
    faults(LOST)
    error = run(f"const id = {task['id']}; return failure(api.{call})")
    assert error["kind"] == "ConnectionError"
    assert len(relay.statuses) == 2


@pytest.mark.parametrize(
    ("call", "changed"),
    [("toggle(task)", {"completed": True}), ("update(task, { title: 'y' })", {"title": "y"})],
)
def test_a_change_of_a_version_survives_a_lost_answer(
    run: Run, user: User, faults: Callable[..., None], call: str, changed: dict[str, Any]
) -> None:
    task = user.create("x")
    faults(LOST)
    answer = run(f"const task = {json.dumps(task)}; return api.{call}")
    assert user.list() == [answer]
    assert answer == task | changed | {"updated_at": answer["updated_at"]}


def test_a_deletion_of_a_version_survives_a_lost_answer(
    run: Run, relay: Relay, user: User, faults: Callable[..., None]
) -> None:
    task = user.create("x")
    faults(LOST)
    assert run(f"return failure(api.remove({json.dumps(task)}))") is None
    assert user.list() == []
    assert relay.statuses == [401, 204, 404]


@pytest.mark.parametrize(
    "call", ["toggle(seen)", "update(seen, { title: 'mine' })", "remove(seen)"]
)
def test_a_change_of_an_old_version_is_a_conflict(run: Run, user: User, call: str) -> None:
    seen = user.create("x")
    theirs = user.call("PUT", f"/{seen['id']}", json={"title": "theirs"})
    error = run(f"const seen = {json.dumps(seen)}; return failure(api.{call})")
    assert error["kind"] == "ConflictError"
    assert (error["status"], error["code"]) == (412, "PRECONDITION_FAILED")
    assert error["current"] == theirs.json()
    assert error["etag"] == theirs.headers["ETag"]
    assert user.list() == [theirs.json()]


def test_an_unchanged_list_is_not_sent_again(run: Run, relay: Relay, user: User) -> None:
    user.create("x")
    same, changed = run(
        """const first = await api.list(), again = await api.list();
        await api.create({ title: "y" });
        return [first === again, (await api.list()).tasks.map((task) => task.title)]"""
    )
    assert same
    assert changed == ["y", "x"]
    assert relay.statuses == [401, 200, 304, 201, 200]


def test_all_pages_are_walked(run: Run, relay: Relay, user: User) -> None:
    run("for (let n = 0; n < 205; n++) await api.create({ title: `${n}` })")
    run("await api.clearCompleted()")
    relay.requests.clear()
    titles = run(
        """const titles = [];
        for await (const task of api.all({ order: "asc" })) titles.push(task.title);
        return titles"""
    )
    assert titles == [str(number) for number in range(205)]
    assert len(relay.requests) == 4
    page = run("return api.page({ q: '20', sort: 'title', limit: 3, status: 'pending' })")
    assert [task["title"] for task in page["tasks"]] == ["120", "20", "200"]
    assert page["total"] == len([title for title in titles if "20" in title])
    assert len(user.list()) == 205


def test_many_tasks_change_at_once(run: Run, user: User) -> None:
    user.create("x")
    user.create("y")
    counts = run(
        """return [await api.completeAll(), await api.completeAll(), await api.reopenAll(),
          await api.toggle((await api.list()).tasks[0]) && await api.clearCompleted()]"""
    )
    assert counts == [2, 0, 2, 1]
    assert [task["title"] for task in user.list()] == ["x"]


def test_the_documented_calls_of_the_client_compile(tmp_path: Path) -> None:
    check_prerequisites()
    shutil.copytree(FRONTEND / "lib", tmp_path / "lib")
    (tmp_path / "node_modules").symlink_to(FRONTEND / "node_modules")
    [_, calls] = blocks(section(read("docs/authentication.md"), "## Use the token"), "ts")
    example = tmp_path / "lib" / "example.ts"
    example.write_text(f"declare const user: {{ id: string }};\n{calls}", encoding="utf-8")
    options = "--noEmit --strict --skipLibCheck --target es2022 --module esnext"
    compiler = ["node_modules/.bin/tsc", *options.split(), "--moduleResolution", "bundler"]
    subprocess.run([*compiler, "lib/example.ts"], cwd=tmp_path, check=True, timeout=120)
