"""The requests and commands on the pages, typed as a reader types them, do what they say."""

import json
import os
import re
import subprocess
from typing import Any

import pytest

from config import Settings
from support.pages import block, blocks, read, section
from support.service import Service, User, wait_for
from support.tokens import SECRET, signed

pytestmark = pytest.mark.slow  # needs curl, which not every machine has

README = read("README.md")
API = read("docs/api.md")


def sh(script: str, **variables: str) -> str:
    """Run what a page shows, with the values that a reader fills in."""
    for variable, value in variables.items():
        script = re.sub(rf"^{variable}=.*$", f"{variable}='{value}'", script, flags=re.MULTILINE)
    run = subprocess.run(
        ["sh", "-eu"],
        input=script,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return run.stdout


def example(task: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return a task's fields in their order, without what differs each time."""
    assert task["created_at"] == task["updated_at"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", task["created_at"])
    assert type(task["id"]) is int
    return list((task | {"id": 1, "created_at": "", "updated_at": "", "user_id": ""}).items())


def test_the_first_request_has_the_answer_that_is_shown(service: Service) -> None:
    text = section(README, "## First request")
    request = block(text, "sh").replace("http://localhost:8000", service.url)
    answer = json.loads(sh(request, TOKEN=signed(sub="demo-user")))
    assert example(answer) == example(json.loads(block(text, "json")))


def test_powershell_sends_the_same_request() -> None:
    text = section(README, "## First request")
    shell = block(text, "sh").replace("$TOKEN", "eyJ...")
    powershell = block(text, "powershell")
    for pattern in (r"http://\S+", r"Bearer eyJ\.\.\.", "application/json", r"'\{.*\}'"):
        assert re.findall(pattern, powershell) == re.findall(pattern, shell) != []
    assert '-Headers @{ Authorization = "Bearer eyJ..." }' in powershell
    assert "-Method Post" in powershell


# What the examples of docs/api.md are answered, by section.
ANSWERS = {
    "## Create a task": ["POST 201", "POST 201", "POST 201"],
    "## List the tasks": ["GET 200", "GET 200", "GET 200", "GET 200"],
    "## Get a task": ["GET 200"],
    "## Change a task": ["PUT 200"],
    "## Toggle a task": ["PATCH 200"],
    "## Delete a task": ["DELETE 204"],
    "## Change or delete many tasks": ["PATCH 200", "DELETE 200"],
    "## Change a task only if nobody else has": ["GET 200", "PUT 200", "PUT 412"],
    "## Ask only for what is new": ["GET 200", "GET 304"],
}


def answered(service: Service, user: User) -> list[str]:
    """Return the method and status of each request of the user, from the service's log."""
    line = rf"\[{user.id}\] \[([A-Z]+) [^]]*\] \[(\d+) in "
    return [" ".join(found) for found in re.findall(line, service.output())]


@pytest.mark.parametrize("heading", ANSWERS)
def test_the_examples_of_the_api_do_what_they_say(
    service: Service, user: User, heading: str
) -> None:
    tasks = [user.create() for _ in range(3)]
    variables = next(code for code in blocks(API, "sh") if "BASE=" in code)
    script = "\n".join([variables, *blocks(section(API, heading), "sh")])
    sh(
        script,
        BASE=service.url,
        USER_ID=user.id,
        TOKEN=user.headers["Authorization"].removeprefix("Bearer "),
        ID=str(tasks[0]["id"]),
    )
    expected = ["POST 201"] * len(tasks) + ANSWERS[heading]
    assert (
        wait_for(lambda: len(now := answered(service, user)) >= len(expected) and now) == expected
    )


def test_every_section_with_an_example_is_run() -> None:
    with_requests = {
        heading
        for heading in re.findall(r"^## .*$", API, re.MULTILINE)
        if any("curl" in code and "$TOKEN" in code for code in blocks(section(API, heading), "sh"))
    }
    assert with_requests == ANSWERS.keys()


def test_the_health_examples_work(service: Service) -> None:
    text = section(API, "## Health")
    for request, shown in zip(blocks(text, "sh"), blocks(text, "json"), strict=True):
        answer = json.loads(sh(f"BASE={service.url}\n{request}"))
        assert answer | {"timestamp": ""} == json.loads(shown) | {"timestamp": ""}


@pytest.mark.parametrize(("query", "number"), [("", 0), ("?limit=2", 1)])
def test_the_example_of_a_list_is_a_list(user: User, query: str, number: int) -> None:
    shown = json.loads(blocks(section(API, "## List the tasks"), "json")[number])
    created = [user.create() for _ in range(3)]
    listed = user.call("GET", query).json()
    assert list(listed) == list(shown)
    assert len(listed["tasks"]) == listed["count"]
    assert len(shown["tasks"]) == shown["count"]
    assert [task["id"] for task in listed["tasks"]] == [task["id"] for task in created[::-1]][
        : listed["count"]
    ]


def test_the_example_of_a_task_is_a_task(user: User) -> None:
    shown = json.loads(block(section(API, "## A task"), "json"))
    assert example(user.create()) == example(shown)


def test_a_generated_secret_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    command = block(section(read("docs/authentication.md"), "## With the shared secret"), "sh")
    assert command.startswith("openssl")
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:password@localhost/tasks")
    monkeypatch.setenv("ALLOWED_ORIGINS", "http://localhost:3000")
    monkeypatch.setenv("BETTER_AUTH_SECRET", sh(command).strip())
    assert Settings().better_auth_secret.get_secret_value() != SECRET
