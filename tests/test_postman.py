"""The Postman collection: as the document says, and run by newman: uv run pytest -m postman."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from postman.steps import FOLDERS
from support.service import PATIENCE, PROJECT, Service, User
from support.tokens import signed

NEWMAN = PROJECT / "tests" / "postman" / "node_modules" / ".bin" / "newman"
STEPS = [step for steps in FOLDERS.values() for step in steps]


def test_the_files_are_what_the_command_makes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "postman.generate", "--output", str(tmp_path)]
    subprocess.run(command, cwd=PROJECT, check=True, timeout=PATIENCE)
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == sorted(path.name for path in (PROJECT / "postman").glob("*.json"))
    for name in made:
        assert (tmp_path / name).read_text() == (PROJECT / "postman" / name).read_text(), (
            "uv run -m postman.generate"
        )


def test_every_operation_is_in_it(service: Service) -> None:
    paths = service.client.get("/openapi.json").json()["paths"]
    operations = {each["operationId"] for path in paths.values() for each in path.values()}
    assert {step.operation for step in STEPS} == operations


def newman(service: Service, user_id: str, token: str, report: Path) -> dict[str, Any]:
    """Run the collection, and return what newman says of its run."""
    if not NEWMAN.exists():
        pytest.fail("This needs Node.js 20 or newer, and: npm ci --prefix tests/postman")
    variables = {"base_url": service.url, "user_id": user_id, "token": token}
    run = subprocess.run(
        [
            NEWMAN,
            *("run", "postman/collection.json", "--environment", "postman/environment.json"),
            *(word for pair in variables.items() for word in ("--env-var", "=".join(pair))),
            *("--reporters", "cli,json", "--reporter-json-export", report),
        ],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    print(run.stdout, run.stderr)  # noqa: T201  # pytest shows it if the test fails
    result: dict[str, Any] = json.loads(report.read_text())["run"]
    assert run.returncode == (1 if result["failures"] else 0)
    return result


@pytest.mark.postman
@pytest.mark.parametrize("user_id", ["", "ada/lovelace %41 é?#&+"])
def test_every_request_is_as_it_should_be(service: Service, tmp_path: Path, user_id: str) -> None:
    user_id += f"{os.urandom(8).hex()}"
    result = newman(service, user_id, signed(sub=user_id), tmp_path / "report.json")
    assert result["failures"] == []
    assert [each["item"]["name"] for each in result["executions"]] == [step.name for step in STEPS]
    for execution in result["executions"]:
        # The status and the body of each are tested.
        assert len(execution["assertions"]) >= 2


@pytest.mark.postman
def test_its_tests_fail_if_the_api_fails(service: Service, user: User, tmp_path: Path) -> None:
    result = newman(service, user.id, signed(sub="another"), tmp_path / "report.json")
    failed = {failure["source"]["name"] for failure in result["failures"]}
    as_ever = {"Is the service alive?", "Does its database work?", "No token", "Another user"}
    assert failed == {step.name for step in STEPS} - as_ever
